"""What a hypervisor answers to, and its process: chosen, started, watched and recorded."""
