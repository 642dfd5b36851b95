// Keeps the words for what went wrong last, so that they reach the console and the host.
#ifndef AGENT_FAULT_H
#define AGENT_FAULT_H

// Note what failed, in printf's notation; always -1, to be returned.
int fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
// The same, with the words of errno behind it.
int fault_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

const char *fault_text(void);
// One line on the console.
void complain(const char *text);

#endif
