"""Lets the threads of a random scenario be scheduled in all ways, beside some that only compute."""

from dataclasses import replace
from random import Random

from faultlane_server.codes import Preemption, SchedPolicy
from faultlane_server.scenario import (
    Compute,
    Fixed,
    Loop,
    Process,
    Scenario,
    Scheduling,
    Sleep,
    ThreadGroup,
    check,
)


def scheduled_oddly(scenario: Scenario, seed: int) -> Scenario:
    """Return the scenario with policies, priorities, affinities and another preemption."""
    return check(_Scheduler(scenario, seed).scheduled())


class _Scheduler:
    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario = scenario
        self.dice = Random(f"{seed} scheduling")
        self.cpus = scenario.machine.cpus

    def scheduled(self) -> Scenario:
        dice = self.dice
        hogs = tuple(self._hog(f"hog{n}") for n in range(dice.choice((0, 1, self.cpus))))
        processes = self.scenario.workload.processes
        processes += (Process("hogs", (), hogs),) if hogs else ()
        processes = tuple(self._process(process) for process in processes)
        kernel = replace(
            self.scenario.kernel,
            hz=1000,
            preemption=dice.choice(list(Preemption)),
            base_slice_ns=dice.choice((100_000, 750_000, 3_000_000)),
            wakeup_preemption=dice.random() < 0.8,
        )
        workload = replace(self.scenario.workload, processes=processes)
        return replace(self.scenario, workload=workload, kernel=kernel)

    def _hog(self, name: str) -> ThreadGroup:
        """Make a thread that computes, and sleeps at times."""
        dice = self.dice
        computes = Compute(Fixed(int(10 ** dice.uniform(3, 7))))
        sleeps = (Sleep(Fixed(int(10 ** dice.uniform(3, 6)))),) if dice.random() < 0.5 else ()
        return ThreadGroup(name, 1, (Loop(0, (computes, *sleeps)),), daemon=True)

    def _process(self, process: Process) -> Process:
        return replace(process, groups=tuple(self._group(group) for group in process.groups))

    def _group(self, group: ThreadGroup) -> ThreadGroup:
        dice = self.dice
        cpus = tuple(cpu for cpu in range(self.cpus) if dice.random() < 0.7)
        return replace(
            group,
            scheduling=self._scheduling() if dice.random() < 0.7 else Scheduling(),
            cpus=cpus if dice.random() < 0.4 else (),
        )

    def _scheduling(self) -> Scheduling:
        dice = self.dice
        policy = dice.choice(list(SchedPolicy))
        if policy in (SchedPolicy.FIFO, SchedPolicy.RR):
            return Scheduling(policy, rt_priority=dice.choice((1, 50, 50, 99)))
        if policy == SchedPolicy.IDLE:
            return Scheduling(policy)
        return Scheduling(policy, nice=dice.choice((-20, -5, 0, 1, 10, 19)))
