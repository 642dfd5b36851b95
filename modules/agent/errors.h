// Keeps the words for what went wrong last, so that they reach the console and the host.
#ifndef AGENT_ERRORS_H
#define AGENT_ERRORS_H

#include "protocol.h"

// Note what failed, in printf's notation; always -1, to be returned.
int error_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same, with the words of errno behind it.
int error_set_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The same as error_set(), of a kind that the host tells its user by name.
int error_set_failure(enum failure failure, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *error_text(void);
// The kind of what failed last.
enum failure error_failure(void);
// One line on the console.
void log_error(const char *text);

#endif
