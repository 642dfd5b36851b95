// File operations that booting needs: reading a whole one, writing a word, making directories, waiting.
#ifndef AGENT_FILES_H
#define AGENT_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// All that return int: 0, or -1 with error_set() called.
// Read a text of less than `size` bytes; a NUL is put behind it.
int read_text(const char *path, char *text, size_t size);
// Write a text to a file of the kernel's, which takes it at once or refuses it.
int write_text(const char *path, const char *text);
// Make a directory; that it exists is no failure.
int make_directory(const char *path, mode_t mode);
int mount_on(const char *type, const char *source, const char *target, unsigned long flags, const char *options);
// Call `found` every millisecond until it returns 0; -1 with error_set() called when `milliseconds` are over.
int wait_until(int (*found)(void *context), void *context, uint64_t milliseconds);

#endif
