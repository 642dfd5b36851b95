"""What copying files out of and into machines is made of: records, and who reads and writes files and tar streams."""
