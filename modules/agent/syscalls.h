// System calls past the C library, whose errno a process must not touch that shares the agent's memory (child.c).
#ifndef AGENT_SYSCALLS_H
#define AGENT_SYSCALLS_H

// The kernel's own answer: -errno where it failed (syscall(2), x86-64).
static inline long raw_syscall(long number, long first, long second, long third, long fourth)
{
    register long in_r10 __asm__("r10") = fourth;
    long result = number;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"(first), "S"(second), "d"(third), "r"(in_r10)
                     : "rcx", "r11", "memory");
    return result;
}

#endif
