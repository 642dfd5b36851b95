"""The life of a machine in the process that supervises it: its start, its boot, its end and its receipt."""

from mvmnix.faces import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        "accelerator": "accelerator_line known_verdicts kvm_access_hint KvmProbe KvmVerdict",
        "creation": "check_creation create_home start_home",
        "finalize": "conclude end_failure Ended never_ran RunObservations",
        "host": "Host",
        "machine": "Machine",
        "start": "begin_start refusals_logged start_machine",
        "supervisor": "detach stopping_signals StopRequestedError supervise SupervisedEnd",
    },
)
