"""What is written about machines and read again: status, ends, receipts, archives."""
