// What a command is that does nothing but print: 128 MiB of one block, as writer.c does it to the port.
#include <string.h>
#include <unistd.h>

#define TOTAL (128u << 20)

int main(void)
{
    static char block[65536];
    memset(block, 'x', sizeof block);
    for (size_t left = TOTAL; left > 0;) {
        ssize_t count = write(STDOUT_FILENO, block, left < sizeof block ? left : sizeof block);
        if (count <= 0)
            return 1;
        left -= (size_t)count;
    }
    return 0;
}
