// The twin of the workload in C++: rules in __main__.py, arguments and output in load.py.
// A word more, `heap` or `std`, says which queue.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <queue>
#include <string>
#include <vector>

using std::int64_t;
using std::uint64_t;
using std::vector;

constexpr int WRITERS = 4;
constexpr int NOBODY = -1;

struct Load {
    int64_t seed, threads, batches, batch_faults, think_ns, channels, read_ns;
    int64_t find_ns, map_ns, pause_ns, write_ns;
};

// An event is its time and its thread in one word, so that the order is total. No thread has two.
constexpr int THREAD_BITS = 17;
constexpr int64_t key_of(int64_t time_ns, int thread) { return time_ns << THREAD_BITS | thread; }
constexpr int thread_of(int64_t key) { return key & ((1 << THREAD_BITS) - 1); }
constexpr int64_t time_of(int64_t key) { return key >> THREAD_BITS; }

class StdQueue {
public:
    explicit StdQueue(size_t) {}
    void push(int64_t key) { queue.push(key); }
    int64_t pop() {
        int64_t key = queue.top();
        queue.pop();
        return key;
    }

private:
    std::priority_queue<int64_t, vector<int64_t>, std::greater<int64_t>> queue;
};

// Four children to a node; the place of the event that was taken is kept for the next that comes.
class FlatHeap {
public:
    explicit FlatHeap(size_t most) : keys(4 * most + 8, INT64_MAX) {}

    void push(int64_t key) {
        if (has_hole) {
            has_hole = false;
            count++;
            sink(key);
            return;
        }
        int64_t at = count++;
        for (; at > 0 && key < keys[(at - 1) / 4]; at = (at - 1) / 4) keys[at] = keys[(at - 1) / 4];
        keys[at] = key;
    }

    int64_t pop() {
        if (has_hole) {
            int64_t last = keys[count];
            keys[count] = INT64_MAX;
            sink(last);
        }
        has_hole = true;
        count--;
        return keys[0];
    }

private:
    void sink(int64_t key) {
        int64_t at = 0;
        for (int64_t child = 1; child < count; child = 4 * at + 1) {
            int64_t left = child + (keys[child + 1] < keys[child]);
            int64_t right = child + 2 + (keys[child + 3] < keys[child + 2]);
            int64_t least = keys[right] < keys[left] ? right : left;
            if (key < keys[least]) break;
            keys[at] = keys[least];
            at = least;
        }
        keys[at] = key;
    }

    vector<int64_t> keys;  // behind the last one, none is sooner
    int64_t count = 0;
    bool has_hole = false;
};

// -ln of numbers from 1/2 to 1, in 30 fractional bits: 2048 steps, and one more to interpolate.
struct Logarithms {
    int64_t steps[2050];
    Logarithms() {
        for (int i = 0; i < 2050; i++) {
            double number = (1 + std::min(i, 2048) / 2048.0) / 2;
            steps[i] = std::llround(-std::log(number) * (1 << 30));
        }
    }
};
const Logarithms LOGARITHMS;
constexpr int64_t LN2 = 744261118;

struct Random {
    uint64_t state;

    uint64_t word() {  // splitmix64
        uint64_t z = state += 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }

    int64_t exponential_ns(int64_t mean_ns) {
        uint64_t bits = word();
        int zeros = std::countl_zero(bits | 1);
        uint64_t fraction = bits << zeros;
        int64_t step = (fraction >> 52) & 0x7FF, within = (fraction >> 36) & 0xFFFF;
        int64_t here = LOGARITHMS.steps[step], next = LOGARITHMS.steps[step + 1];
        int64_t minus_log = zeros * LN2 + here + (((next - here) * within) >> 16);
        return (minus_log * mean_ns) >> 30;
    }
};

enum class Step : int8_t { THINK_ENDS, VMA_ENDS, READ_ENDS, MMAP_ENDS, PAUSE_ENDS, WRITE_ENDS };

struct alignas(64) Thread {
    Random random;
    int64_t begin_ns, asked_ns, mmap_wait_ns;
    union {
        int64_t device_ns;  // of a fault
        int64_t drain_ns;  // of a write
    };
    int next;  // who waits behind it
    Step step;
    int8_t vma, mmap_reads;
    bool is_cached, is_read, has_failed;
};

struct Vma {
    int readers = 0, drainer = NOBODY;
    bool is_stamped = false;
};

struct Line {
    int first = NOBODY, last = NOBODY;

    void join(vector<Thread>& threads, int thread) {
        threads[thread].next = NOBODY;
        (first == NOBODY ? first : threads[last].next) = thread;
        last = thread;
    }

    int leave(vector<Thread>& threads) {
        int thread = first;
        first = threads[thread].next;
        return thread;
    }
};

// The logs: a row for each fault, and one for each write.
struct Faults {
    vector<int> thread;
    vector<int8_t> vma, is_cached, mmap_reads, has_failed;
    vector<int64_t> begin_ns, duration_ns, device_ns, mmap_wait_ns;
    size_t count = 0;

    explicit Faults(size_t most)
        : thread(most), vma(most), is_cached(most), mmap_reads(most), has_failed(most),
          begin_ns(most), duration_ns(most), device_ns(most), mmap_wait_ns(most) {}

    void write(int number, const Thread& t, int64_t now_ns) {
        thread[count] = number;
        vma[count] = t.vma;
        is_cached[count] = t.is_cached;
        mmap_reads[count] = t.mmap_reads;
        has_failed[count] = t.has_failed;
        begin_ns[count] = t.begin_ns;
        duration_ns[count] = now_ns - t.begin_ns;
        device_ns[count] = t.device_ns;
        mmap_wait_ns[count] = t.mmap_wait_ns;
        count++;
    }
};

struct Write {
    int thread;
    int64_t begin_ns, end_ns, wait_ns, drain_ns;
};

template <class Queue>
class Simulation {
public:
    explicit Simulation(const Load& load)
        : faults(load.batch_faults), load(load), queue(load.threads + WRITERS),
          threads(load.threads + WRITERS), idle_channels(load.channels) {
        for (int number = 0; number < int(threads.size()); number++) {
            Thread& t = threads[number];
            t.random.state = Random{uint64_t(load.seed) << 32 | uint64_t(number)}.word();
            t.vma = number % WRITERS;
            t.is_cached = number / WRITERS % 2;
            if (number < WRITERS) pause(number);
            else think(number);
        }
    }

    void run_batch() {
        faults.count = 0;
        writes.clear();
        began_ns = now_ns;
        while (faults.count < size_t(load.batch_faults)) {
            int64_t key = queue.pop();
            now_ns = time_of(key);
            happen(thread_of(key));
        }
    }

    Faults faults;
    vector<Write> writes;
    int64_t began_ns = 0;  // of the batch
    int64_t now_ns = 0;

private:
    void after(int number, Step step, int64_t ns) {
        threads[number].step = step;
        queue.push(key_of(now_ns + ns, number));
    }

    void happen(int number) {
        switch (threads[number].step) {
        case Step::THINK_ENDS: return begin_fault(number);
        case Step::VMA_ENDS: return end_vma(number);
        case Step::READ_ENDS: return end_read(number);
        case Step::MMAP_ENDS: return end_mmap(number);
        case Step::PAUSE_ENDS: return ask_write(number);
        case Step::WRITE_ENDS: return end_write(number);
        }
    }

    void think(int number) {
        after(number, Step::THINK_ENDS, threads[number].random.exponential_ns(load.think_ns));
    }

    void pause(int number) {
        after(number, Step::PAUSE_ENDS, threads[number].random.exponential_ns(load.pause_ns));
    }

    void begin_fault(int number) {
        Thread& t = threads[number];
        t.begin_ns = now_ns;
        t.mmap_wait_ns = t.device_ns = t.mmap_reads = 0;
        t.is_cached = !t.is_cached;
        t.is_read = t.is_cached;
        Vma& vma = vmas[t.vma];
        t.has_failed = vma.is_stamped;
        if (vma.is_stamped) return ask_mmap(number);
        vma.readers++;
        after(number, Step::VMA_ENDS, attempt_ns(t));
    }

    int64_t attempt_ns(const Thread& t) const {
        return load.find_ns + (t.is_read ? load.map_ns : 0);
    }

    void end_vma(int number) {
        Vma& vma = vmas[threads[number].vma];
        vma.readers--;
        if (vma.readers == 0 && vma.drainer != NOBODY) stamp(vma, vma.drainer);
        end_attempt(number);
    }

    void end_attempt(int number) {
        Thread& t = threads[number];
        if (!t.is_read) return ask_device(number);
        faults.write(number, t, now_ns);
        think(number);
    }

    void ask_device(int number) {
        threads[number].asked_ns = now_ns;
        if (idle_channels == 0) return device_line.join(threads, number);
        idle_channels--;
        start_read(number);
    }

    void start_read(int number) {
        after(number, Step::READ_ENDS, threads[number].random.exponential_ns(load.read_ns));
    }

    void end_read(int number) {
        if (device_line.first == NOBODY) idle_channels++;
        else start_read(device_line.leave(threads));
        Thread& t = threads[number];
        t.is_read = true;
        t.device_ns = now_ns - t.asked_ns;
        ask_mmap(number);
    }

    void ask_mmap(int number) {
        threads[number].asked_ns = now_ns;
        if (writer != NOBODY) return reader_line.join(threads, number);
        hold_mmap(number);
    }

    void hold_mmap(int number) {
        Thread& t = threads[number];
        mmap_readers++;
        t.mmap_reads++;
        t.mmap_wait_ns += now_ns - t.asked_ns;
        after(number, Step::MMAP_ENDS, attempt_ns(t));
    }

    void end_mmap(int number) {
        mmap_readers--;
        bool is_free = mmap_readers == 0;
        if (is_free && spinner_line.first != NOBODY) hold_write(spinner_line.leave(threads));
        end_attempt(number);
    }

    void ask_write(int number) {
        threads[number].begin_ns = now_ns;
        if (writer != NOBODY || mmap_readers > 0) return spinner_line.join(threads, number);
        hold_write(number);
    }

    void hold_write(int number) {
        Thread& t = threads[number];
        writer = number;
        t.asked_ns = now_ns;
        t.mmap_wait_ns = now_ns - t.begin_ns;
        Vma& vma = vmas[t.vma];
        if (vma.readers > 0) vma.drainer = number;
        else stamp(vma, number);
    }

    void stamp(Vma& vma, int number) {
        vma.is_stamped = true;
        vma.drainer = NOBODY;
        threads[number].drain_ns = now_ns - threads[number].asked_ns;
        after(number, Step::WRITE_ENDS, load.write_ns);
    }

    void end_write(int number) {
        Thread& t = threads[number];
        vmas[t.vma].is_stamped = false;
        writer = NOBODY;
        writes.push_back({number, t.begin_ns, now_ns, t.mmap_wait_ns, t.drain_ns});
        pause(number);
        if (spinner_line.first != NOBODY) return hold_write(spinner_line.leave(threads));
        while (reader_line.first != NOBODY) hold_mmap(reader_line.leave(threads));
    }

    Load load;
    Queue queue;
    vector<Thread> threads;
    Vma vmas[WRITERS];
    Line device_line, reader_line, spinner_line;
    int64_t idle_channels, mmap_readers = 0;
    int writer = NOBODY;
};

template <class Column>
int64_t sum(const Column& column) {
    int64_t total = 0;
    for (auto value : column) total += value;
    return total;
}

template <class Queue>
void print_batch(double cpu_s, const Simulation<Queue>& simulation) {
    const Faults& faults = simulation.faults;
    int64_t wait_ns = 0, drain_ns = 0;
    for (const Write& write : simulation.writes) {
        wait_ns += write.wait_ns;
        drain_ns += write.drain_ns;
    }
    std::printf("%.9f", cpu_s);
    int64_t sums[] = {
        simulation.now_ns - simulation.began_ns,
        int64_t(faults.count),
        sum(faults.duration_ns),
        sum(faults.device_ns),
        sum(faults.mmap_wait_ns),
        sum(faults.mmap_reads),
        sum(faults.has_failed),
        int64_t(simulation.writes.size()),
        wait_ns,
        drain_ns,
    };
    for (int64_t value : sums) std::printf(" %lld", static_cast<long long>(value));
    std::printf("\n");
}

template <class Queue>
void run(const Load& load) {
    Simulation<Queue> simulation(load);
    for (int64_t batch = 0; batch < load.batches; batch++) {
        std::clock_t began = std::clock();
        simulation.run_batch();
        print_batch(double(std::clock() - began) / CLOCKS_PER_SEC, simulation);
    }
}

int main(int, char** words) {
    int64_t v[11];
    for (int i = 0; i < 11; i++) v[i] = std::atoll(words[2 + i]);
    Load load{v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10]};
    if (std::string(words[1]) == "heap") run<FlatHeap>(load);
    else run<StdQueue>(load);
}
