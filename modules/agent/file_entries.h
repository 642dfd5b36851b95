// Describes what lies at a path or in a directory, in records on standard output (docs/reference/channel.md, "Files").
#ifndef AGENT_FILE_ENTRIES_H
#define AGENT_FILE_ENTRIES_H

// Each returns 0, or errno when a line was written about it.
// All that is in the directory, by name; a link at the path's end is followed, those in the directory are described.
int list_directory(const char *path);
// What is there itself, without a name; a link is not followed.
int describe_path(const char *path);

#endif
