"""How much can be asked for: what the engine's record has room for, and what fits its integers."""

INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
INT32_MAX = 2**31 - 1

HORIZON_NS_MAX = 10**15
ATTEMPTS_MAX = 65536  # if the scenario does not say

PROCESSES_MAX = 1024
THREADS_MAX = 65536
VMAS_MAX = 131072
FILES_MAX = 65536
VMA_PLACES_MAX = 4 * VMAS_MAX  # in the address order, which every munmap may need two more of
PAGES_MAX = 16 * 2**20
PAGES_SET_MAX = 16 * PAGES_MAX  # by the ranges of initial states
ADDRESS_MAX = 2**47
OPEN_CHARACTERS_MAX = 128

MEMCGS_MAX = 255
MEMCG_PAGES_LEAST = 64  # what one charge takes at once
MEMORY_PAGES_LEAST = 256
IOPS_MAX = 10**9
SWAPPINESS_MAX = 200
PAGE_CLUSTER_MAX = 6
LRU_GEN_CHOICES = (1, 3, 5, 7)

CPUS_MAX = 512
AFFINITIES_MAX = 4095  # different sets of CPUs that groups may run on
NICE_LEAST, NICE_MAX = -20, 19
RT_PRIORITY_MAX = 99
BASE_SLICE_NS_LEAST = 100_000
BASE_SLICE_NS_MAX = 100_000_000
DEVICES_MAX = 64
CHANNELS_MAX = 4096
READAHEAD_BYTES_MAX = 16 * 2**20
FAULT_AROUND_BYTES_MAX = 2**31
COST_NS_MAX = 10**9
HZ_CHOICES = (100, 250, 300, 1000)

DURATION_NS_MAX = 10**12
SIGMA_PPM_MAX = 4_000_000
QUANTILES_MAX = 64
QUANTILES_ALL_MAX = 65536

STEPS_MAX = 65536
NESTING_MAX = 8
SECTIONS_MAX = 16
BARRIERS_MAX = 4096
OPENS_MAX = 131072
MMAP_BYTES_MAX = 2**30
MMAP_HUGETLB_BYTES_MAX = 2**40
HUGE_PAGE_PAGES_MAX = 2**18  # base pages in a huge page
ANON_NAME_CHARACTERS_MAX = 80
TRAIT_MAX = 65535  # names of memory, and memory policies
THETA_PPM_MAX = 10_000_000
LIST_MAX = 262144
LISTS_ALL_MAX = 8 * 2**20
ZIPF_PAGES_ALL_MAX = 4 * 2**20
CURSORS_MAX = 4 * 2**20
IDLE_ROUNDS_MAX = 65536  # of a loop that takes no time

# What GetServerInfo tells.
LIMITS: dict[str, int] = {
    "processes": PROCESSES_MAX,
    "threads": THREADS_MAX,
    "vmas": VMAS_MAX,
    "files": FILES_MAX,
    "pages": PAGES_MAX,
    "memcgs": MEMCGS_MAX,
    "cpus": CPUS_MAX,
    "devices": DEVICES_MAX,
    "horizon_ns": HORIZON_NS_MAX,
    "pages_with_initial_states": PAGES_SET_MAX,
    "program_steps": STEPS_MAX,
    "program_nesting": NESTING_MAX,
    "sections": SECTIONS_MAX,
    "barriers": BARRIERS_MAX,
    "explicit_entries_in_a_list": LIST_MAX,
    "explicit_entries": LISTS_ALL_MAX,
    "zipf_pages": ZIPF_PAGES_ALL_MAX,
    "walking_touches_times_threads": CURSORS_MAX,
    "quantile_points": QUANTILES_ALL_MAX,
}
