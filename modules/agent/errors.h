// Keeps the words for what went wrong last, so that they reach the console and the host.
#ifndef AGENT_ERRORS_H
#define AGENT_ERRORS_H

// Note what failed, in printf's notation; always -1, to be returned.
int error_set(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same, with the words of errno behind it.
int error_set_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

const char *error_text(void);
// One line on the console.
void log_error(const char *text);

#endif
