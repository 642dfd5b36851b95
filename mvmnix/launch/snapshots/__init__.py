"""Snapshots: running guests whose memory is kept, sealed, beside a signed statement of what they were."""
