// Keeps the words for what went wrong last, so that they reach the console and the host.
#include "errors.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static char last[MAX_TEXT];
static enum failure last_failure;

static void note(const char *format, va_list arguments)
{
    last_failure = FAILURE_OTHER;
    (void)vsnprintf(last, sizeof last, format, arguments);
}

int error_set(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
    return -1;
}

int error_set_errno(const char *format, ...)
{
    int number = errno;
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
    size_t used = strlen(last);
    (void)snprintf(last + used, sizeof last - used, ": %s", strerror(number));
    return -1;
}

int error_set_failure(enum failure failure, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    note(format, arguments);
    va_end(arguments);
    last_failure = failure;
    return -1;
}

enum failure error_failure(void)
{
    return last_failure;
}

const char *error_text(void)
{
    return last[0] == '\0' ? "no reason given" : last;
}

void log_error(const char *text)
{
    (void)fprintf(stderr, "mvm agent: %s\n", text);
    (void)fflush(stderr);
}
