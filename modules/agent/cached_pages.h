// How many pages of files the kernel keeps in memory.
#ifndef AGENT_CACHED_PAGES_H
#define AGENT_CACHED_PAGES_H

#include <stddef.h>

// 0 where that can't be told.
size_t cached_pages(void);

#endif
