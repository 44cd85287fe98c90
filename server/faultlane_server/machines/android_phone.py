"""A phone with Android: of what is published about phones, nothing is a cost.

Published are waits, launch times, and that reads of UFS are 30 to 40 per cent of the time of major
faults. In a warm start of an app on a phone with 8 GB, before the retry series (its v2 cover), 656
of 20,010 readers waited for mmap_lock for a millisecond or more, about 16 ms on average, and none
for 100 ms; on average readers waited for 534 us and writers for 598 us. It is the device that makes
them wait so long, and a scenario says itself how long that takes. The costs here say only that a
core of a phone takes about twice as long as one of a server, and that its idle states are deep:
they are assumed.
"""

from faultlane_server.machines.neutral import NEUTRAL
from faultlane_server.machines.profile import Cost, based_on

ANDROID_PHONE = based_on(
    NEUTRAL,
    "android-phone",
    "a phone with Android: all costs are assumed, at about twice those of a server",
    {
        "word_local": Cost(10, "assumed"),
        "word_remote": Cost(60, "assumed: one chip, so nearer than two sockets"),
        "idle_exit": Cost(20_000, "assumed: a deep idle state of a core"),
        "timer": Cost(2_000, "assumed"),
    },
    tenths=20,
)
