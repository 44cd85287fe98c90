"""The locks: who gets them, who waits and who is woken.

Nothing here knows of time that passes, CPUs or faults: a caller says what a
thread does to a lock, and learns who has to be woken for it.
"""
