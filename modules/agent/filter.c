// Makes the seccomp filter of a tier from the table, and puts the calling process under it.
#include "filter.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "errors.h"
#include "filter_table.h"

// Numbers from here on are those of the x32 ABI, which would be a second name for every call.
#define X32 0x40000000u
#define ERROR(number) (SECCOMP_RET_ERRNO | (uint32_t)(number))

// So many rows are tried one after the other, where the search by halves has led to.
#define LEAF 4u
#define LONGEST_JUMP 255u
#define MOST_ROWS 256u

static struct sock_filter program[BPF_MAXINSNS];
static size_t length;
static const struct rule *rows[MOST_ROWS];

static void add(uint16_t code, uint32_t value, size_t then, size_t otherwise)
{
    if (length < BPF_MAXINSNS)
        program[length] = (struct sock_filter){code, (uint8_t)then, (uint8_t)otherwise, value};
    length++;
}

static void load(size_t offset)
{
    add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

// Go on if it is so, else leave out the next `skipped` instructions.
static void add_test(uint16_t how, uint32_t value, size_t skipped)
{
    add((uint16_t)(BPF_JMP | how | BPF_K), value, 0, skipped);
}

static void answer(uint32_t action)
{
    add(BPF_RET | BPF_K, action, 0, 0);
}

static void add_rule(const struct rule *rule)
{
    uint32_t action = rule->answer == 0 ? SECCOMP_RET_ALLOW : ERROR(rule->answer);
    if (rule->test == ANY_CALL) {
        add_test(BPF_JEQ, rule->number, 1);
        answer(action);
        return;
    }
    add_test(BPF_JEQ, rule->number, 4);
    load(offsetof(struct seccomp_data, args) + rule->argument * sizeof(uint64_t));
    add_test(rule->test == ARGUMENT_IS ? BPF_JEQ : BPF_JSET, rule->value, 1);
    answer(action);
    load(offsetof(struct seccomp_data, nr));
}

// The rows of one tier by number, those of one number in the table's order.
static size_t choose(enum tier tier)
{
    size_t count = 0;
    for (size_t i = 0; i < filter_rule_count; i++) {
        if ((filter_rules[i].tiers >> tier & 1u) == 0)
            continue;
        size_t at = count++;
        for (; at > 0 && rows[at - 1]->number > filter_rules[i].number; at--)
            rows[at] = rows[at - 1];
        rows[at] = &filter_rules[i];
    }
    return count;
}

// Search by halves: when a filter is installed, the kernel runs it once for each number, to remember which are let
// through whatever their arguments (kernel/seccomp.c, seccomp_cache_prepare()).
static void add_rows(size_t from, size_t to)
{
    size_t middle = from + (to - from) / 2;
    while (middle > from && rows[middle - 1]->number == rows[middle]->number)
        middle--;
    if (to - from <= LEAF || middle == from) {
        for (size_t i = from; i < to; i++)
            add_rule(rows[i]);
        answer(SECCOMP_RET_ALLOW);
        return;
    }
    size_t fork_at = length;
    add(BPF_JMP | BPF_JGE | BPF_K, rows[middle]->number, 0, 0);
    add_rows(from, middle);
    size_t skipped = length - fork_at - 1;
    if (skipped <= LONGEST_JUMP && length <= BPF_MAXINSNS)
        program[fork_at].jt = (uint8_t)skipped;
    else
        length = BPF_MAXINSNS + 1;
    add_rows(middle, to);
}

int filter_make(enum tier tier)
{
    if (filter_rule_count > MOST_ROWS)
        return error_set("a table of filters that is too long");
    length = 0;
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    answer(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    add_test(BPF_JGE, X32, 1);
    answer(ERROR(ENOSYS));
    add_rows(0, choose(tier));
    return length <= BPF_MAXINSNS ? 0 : error_set("a filter that is too long");
}

int filter_install(void)
{
    const struct sock_fprog filter = {(unsigned short)length, program};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0);
}

int filter_write(int fd)
{
    size_t size = length * sizeof program[0];
    return write(fd, program, size) == (ssize_t)size ? 0 : -1;
}
