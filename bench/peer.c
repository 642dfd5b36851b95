// Both ends of what is measured of a guest's network: `peer serve BYTES ADDRESS` on the host, the others in the guest.
//
// The server takes at 7001 whatever comes, and says one byte at its end; at 7002 it says BYTES, and waits for the end;
// at 7003 it says what is said to it. The others take HOST, and as FIRST a file of bytes that each connection begins
// with ("-": none), and print nanoseconds:
//   peer send HOST FIRST BYTES    peer receive HOST FIRST BYTES
//   peer connect HOST FIRST COUNT PARALLEL: so many connections, so many at once, each with one answer
//   peer echo HOST FIRST COUNT: each round trip of one byte, a line for each
//   peer lease HOST: what QEMU's own stack has to be asked once, before it knows this guest's link (RFC 2131)
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TAKES = 7001, GIVES, ECHOES, MOST = 4096, PARALLEL_MOST = 256 };

static char block[1 << 18];
static char first[4096];
static ssize_t first_size;
static struct sockaddr_in where = {.sin_family = AF_INET};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long long now(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void no_delay(int fd)
{
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

// ---- the server

struct connection {
    int port;
    long long left;
};

static struct connection served[MOST];

static void serve_one(int loop, int fd, long long bytes)
{
    struct connection *one = &served[fd];
    if (one->port == GIVES && one->left > 0) {
        while (one->left > 0) {
            ssize_t done = send(fd, block, one->left < (long long)sizeof block ? (size_t)one->left : sizeof block, MSG_NOSIGNAL);
            if (done < 0 && errno == EAGAIN)
                return;
            if (done < 0) {
                close(fd);
                return;
            }
            one->left -= done;
        }
        (void)shutdown(fd, SHUT_WR);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        (void)epoll_ctl(loop, EPOLL_CTL_MOD, fd, &event);
    }
    (void)bytes;
    ssize_t got = recv(fd, block, sizeof block, 0);
    if (got > 0 && one->port == ECHOES)
        (void)send(fd, block, (size_t)got, MSG_NOSIGNAL);
    if (got > 0 || (got < 0 && errno == EAGAIN))
        return;
    if (got == 0 && one->port == TAKES)
        (void)send(fd, "d", 1, MSG_NOSIGNAL);
    close(fd);
}

static void serve(long long bytes, const char *address)
{
    int loop = epoll_create1(0);
    int listeners[3];
    const int on = 1;
    for (int number = 0; number < 3; number++) {
        int fd = listeners[number] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((unsigned short)(TAKES + number))};
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        (void)inet_pton(AF_INET, address, &own.sin_addr);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0 || listen(fd, 1024) < 0)
            fail("listen");
        (void)epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    }
    (void)puts("ready");
    (void)fflush(stdout);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(loop, events, 64, -1);
        for (int each = 0; each < count; each++) {
            int fd = events[each].data.fd, number = 0;
            while (number < 3 && listeners[number] != fd)
                number++;
            if (number == 3) {
                serve_one(loop, fd, bytes);
                continue;
            }
            int made;
            while ((made = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (made >= MOST) {
                    close(made);
                    continue;
                }
                no_delay(made);
                served[made] = (struct connection){.port = TAKES + number, .left = bytes};
                struct epoll_event event = {.events = EPOLLIN | (number == 1 ? EPOLLOUT : 0u), .data.fd = made};
                (void)epoll_ctl(loop, EPOLL_CTL_ADD, made, &event);
            }
        }
    }
}

// ---- the guest

static int connected(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    where.sin_port = htons((unsigned short)port);
    if (fd < 0 || connect(fd, (struct sockaddr *)&where, sizeof where) < 0)
        fail("connect");
    no_delay(fd);
    if (first_size > 0 && send(fd, first, (size_t)first_size, MSG_NOSIGNAL) != first_size)
        fail("send");
    return fd;
}

static void take_send(long long bytes)
{
    int fd = connected(TAKES);
    for (long long left = bytes; left > 0;) {
        ssize_t done = send(fd, block, left < (long long)sizeof block ? (size_t)left : sizeof block, MSG_NOSIGNAL);
        if (done <= 0)
            fail("send");
        left -= done;
    }
    (void)shutdown(fd, SHUT_WR);
    if (recv(fd, block, 1, 0) != 1)
        fail("the answer");
    close(fd);
}

static void take_receive(long long bytes)
{
    int fd = connected(GIVES);
    long long got = 0;
    for (ssize_t count; (count = recv(fd, block, sizeof block, 0)) != 0; got += count)
        if (count < 0)
            fail("recv");
    if (got != bytes)
        fail("not as many bytes");
    close(fd);
}

static int begun(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    where.sin_port = htons(ECHOES);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&where, sizeof where) < 0 && errno != EINPROGRESS))
        fail("connect");
    no_delay(fd);
    return fd;
}

static void take_connect(long long count, int parallel)
{
    static struct pollfd watched[PARALLEL_MOST];
    static ssize_t left[PARALLEL_MOST];
    ssize_t size = first_size > 0 ? first_size : 1;
    long long to_begin = count, to_end = count;
    for (int each = 0; each < parallel; each++, to_begin--)
        watched[each] = (struct pollfd){.fd = begun(), .events = POLLOUT};
    while (to_end > 0) {
        if (poll(watched, (nfds_t)parallel, 60000) <= 0)
            fail("poll");
        for (int each = 0; each < parallel; each++) {
            struct pollfd *one = &watched[each];
            if (one->revents == 0)
                continue;
            if (one->events == POLLOUT) {
                if (send(one->fd, first_size > 0 ? first : "x", (size_t)size, MSG_NOSIGNAL) != size)
                    fail("send");
                one->events = POLLIN;
                left[each] = size;
                continue;
            }
            ssize_t got = recv(one->fd, block, sizeof block, 0);
            if (got <= 0)
                fail("recv");
            if ((left[each] -= got) > 0)
                continue;
            close(one->fd);
            to_end--;
            *one = to_begin-- > 0 ? (struct pollfd){.fd = begun(), .events = POLLOUT} : (struct pollfd){.fd = -1};
        }
    }
}

static void take_echo(long long count)
{
    int fd = connected(ECHOES);
    if (first_size > 0 && recv(fd, block, (size_t)first_size, MSG_WAITALL) != first_size)
        fail("recv");
    for (long long each = 0; each < count; each++) {
        long long begin = now();
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1 || recv(fd, block, 1, 0) != 1)
            fail("echo");
        (void)printf("%lld\n", now() - begin);
    }
    close(fd);
}

static void lease(void)
{
    // op, htype, hlen; xid; the hardware address at 28; the cookie at 236, then the option 53: DISCOVER
    static unsigned char ask[300] = {1, 1, 6, 0, 1, 2, 3, 4, [28] = 0x02, 0x6d, 0x76, 0x6d, 0x00, 0x02};
    static const unsigned char options[] = {99, 130, 83, 99, 53, 1, 1, 255};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(68)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    memcpy(ask + 236, options, sizeof options);
    where.sin_port = htons(67);
    if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
        fail("bind");
    for (int each = 0; each < 3; each++)
        if (sendto(fd, ask, sizeof ask, 0, (struct sockaddr *)&where, sizeof where) < 0)
            fail("sendto");
}

static void look_up(const char *host)
{
    struct addrinfo *found, hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        fail("getaddrinfo");
    where.sin_addr = ((struct sockaddr_in *)(void *)found->ai_addr)->sin_addr;
}

int main(int count, char **word)
{
    if (count == 4 && strcmp(word[1], "serve") == 0)
        serve(atoll(word[2]), word[3]);
    if (count < 3)
        return 2;
    look_up(word[2]);
    if (strcmp(word[1], "lease") == 0) {
        lease();
        return 0;
    }
    if (count < 5)
        return 2;
    if (strcmp(word[3], "-") != 0) {
        int file = open(word[3], O_RDONLY);
        first_size = read(file, first, sizeof first);
        if (first_size <= 0)
            fail(word[3]);
    }
    long long number = atoll(word[4]), begin = now();
    bool echoes = strcmp(word[1], "echo") == 0;
    if (echoes)
        take_echo(number);
    else if (strcmp(word[1], "send") == 0)
        take_send(number);
    else if (strcmp(word[1], "receive") == 0)
        take_receive(number);
    else if (count == 6 && strcmp(word[1], "connect") == 0)
        take_connect(number, atoi(word[5]));
    else
        return 2;
    if (!echoes)
        (void)printf("%lld\n", now() - begin);
    return 0;
}
