"""The columns of the two logs: one row for each fault, one for each operation.

Names and order are those of `FaultBatch` and `OperationBatch` in the proto, where
each is explained. Columns of times and ordinals are 64 bits wide, ids and codes
32; all are unsigned and little-endian.
"""

FAULT_COLUMNS: dict[str, str] = {
    "thread": "<u4",
    "touch": "<u8",
    "process": "<u4",
    "cpu": "<u4",
    "vma": "<u4",
    "address": "<u8",
    "access": "<u4",
    "kind": "<u4",
    "start_ns": "<u8",
    "duration_ns": "<u8",
    "finished": "<u4",
    "lock": "<u4",
    "attempts": "<u4",
    "vma_retries": "<u4",
    "retry_reasons": "<u4",
    "result": "<u4",
    "major": "<u4",
    "reads": "<u4",
    "mmap_reads": "<u4",
    "cpu_ns": "<u8",
    "wait_mmap_lock_ns": "<u8",
    "wait_folio_ns": "<u8",
    "wait_device_ns": "<u8",
    "wait_run_queue_ns": "<u8",
    "wait_lock_word_ns": "<u8",
    "blocker": "<u4",
    "wait_invalidate_lock_ns": "<u8",
    "wait_writeback_ns": "<u8",
    "wait_throttle_ns": "<u8",
}

OPERATION_COLUMNS: dict[str, str] = {
    "thread": "<u4",
    "ordinal": "<u8",
    "process": "<u4",
    "cpu": "<u4",
    "kind": "<u4",
    "address": "<u8",
    "pages": "<u8",
    "start_ns": "<u8",
    "duration_ns": "<u8",
    "finished": "<u4",
    "wait_mmap_lock_ns": "<u8",
    "wait_vma_ns": "<u8",
    "wait_run_queue_ns": "<u8",
    "wait_lock_word_ns": "<u8",
    "cpu_ns": "<u8",
    "hold_ns": "<u8",
    "blocker": "<u4",
    "wait_invalidate_lock_ns": "<u8",
    "wait_folio_ns": "<u8",
    "wait_device_ns": "<u8",
    "wait_writeback_ns": "<u8",
}
