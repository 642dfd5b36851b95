// Starts one fixed program with fixed first arguments, and without what could make it load anything else.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// LAUNCHER_ARGUMENTS, given by the compiler's command line: quoted words with a comma after each.
static const char *const fixed[] = {LAUNCHER_ARGUMENTS};
enum { FIXED = sizeof fixed / sizeof fixed[0], FAILED = 125 };

// What steers the dynamic linker, libc, Python and OpenSSL by environment. Children of ours get none of it either.
static const char *const dropped[] = {"GCONV_PATH=", "GLIBC_TUNABLES=", "LD_", "OPENSSL_", "PYTHON"};

static int is_dropped(const char *variable) {
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        if (strncmp(variable, dropped[i], strlen(dropped[i])) == 0) return 1;
    return 0;
}

static void clean(char **environment) {
    char **kept = environment;
    for (char **variable = environment; *variable; variable++)
        if (!is_dropped(*variable)) *kept++ = *variable;
    *kept = NULL;
}

int main(int argc, char **argv, char **environment) {
    size_t given = argc > 1 ? (size_t)argc - 1 : 0;
    const char **arguments = calloc(FIXED + given + 1, sizeof *arguments);
    if (!arguments) {
        perror(fixed[0]);
        return FAILED;
    }
    memcpy(arguments, fixed, sizeof fixed);
    for (size_t i = 0; i < given; i++) arguments[FIXED + i] = argv[i + 1];
    clean(environment);
    execve(fixed[0], (char *const *)arguments, environment);
    fprintf(stderr, "%s can't be started: %s\n", fixed[0], strerror(errno));
    return FAILED;
}
