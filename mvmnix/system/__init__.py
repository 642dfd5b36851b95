"""What is asked of the kernel and the file system: processes, files, locks, rights."""
