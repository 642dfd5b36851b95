// Which system calls a tier of the workload's filter answers itself, row by row; data alone.
#include "filter_table.h"

#include <asm/unistd.h>
#include <errno.h>
#include <linux/sched.h>
#include <sys/ptrace.h>
#include <sys/socket.h>

// Newer than some headers that this is compiled with; the numbers are the same on all architectures.
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif
#ifndef __NR_statmount
#define __NR_statmount 457
#define __NR_listmount 458
#endif
#ifndef __NR_lsm_set_self_attr
#define __NR_lsm_set_self_attr 460
#endif
#ifndef __NR_open_tree_attr
#define __NR_open_tree_attr 467
#endif

// TIOCSTI and TIOCLINUX put characters into a terminal's input (ioctl_tty(2)).
#define TYPE_FOR_USER 0x5412u
#define TYPE_ON_CONSOLE 0x541cu
#define ASK_PERSONALITY 0xffffffffu
#define NAMESPACES                                                                                                      \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define ALL (1u << TIER_DEFAULT | 1u << TIER_STRICT | 1u << TIER_NAMESPACES)
#define USUAL (1u << TIER_DEFAULT | 1u << TIER_STRICT)
#define STRICT (1u << TIER_STRICT)

#define DENY(tiers, name) {__NR_##name, (tiers), ANY_CALL, 0, EPERM, 0}
#define UNKNOWN(tiers, name) {__NR_##name, (tiers), ANY_CALL, 0, ENOSYS, 0}
#define DENY_IF(tiers, name, argument, value) {__NR_##name, (tiers), ARGUMENT_IS, (argument), EPERM, (value)}
#define DENY_BITS(tiers, name, argument, value) {__NR_##name, (tiers), ARGUMENT_HAS, (argument), EPERM, (value)}
#define LET_IF(tiers, name, argument, value) {__NR_##name, (tiers), ARGUMENT_IS, (argument), 0, (value)}

const struct rule filter_rules[] = {
    // file systems and namespaces, which Nix's sandbox is made of
    DENY(USUAL, mount), DENY(USUAL, umount2), DENY(USUAL, pivot_root), DENY(USUAL, chroot), DENY(USUAL, open_tree),
    DENY(USUAL, open_tree_attr), DENY(USUAL, move_mount), DENY(USUAL, fsopen), DENY(USUAL, fsconfig), DENY(USUAL, fsmount),
    DENY(USUAL, fspick), DENY(USUAL, mount_setattr), DENY(USUAL, statmount), DENY(USUAL, listmount), DENY(USUAL, setns),
    DENY(USUAL, sethostname), DENY(USUAL, setdomainname),
    DENY_BITS(USUAL, unshare, 0, NAMESPACES | CLONE_NEWTIME),
    DENY_BITS(USUAL, clone, 0, NAMESPACES),
    UNKNOWN(USUAL, clone3),  // its flags lie in memory, where no filter reads; libraries fall back to clone

    // the kernel itself: what is rarely needed, and where its flaws are found
    DENY(ALL, bpf), DENY(ALL, perf_event_open), DENY(ALL, userfaultfd), UNKNOWN(ALL, io_uring_setup),
    UNKNOWN(ALL, io_uring_enter), UNKNOWN(ALL, io_uring_register), DENY(ALL, keyctl), DENY(ALL, add_key),
    DENY(ALL, request_key), DENY(ALL, kexec_load), DENY(ALL, kexec_file_load), DENY(ALL, init_module),
    DENY(ALL, finit_module), DENY(ALL, delete_module), DENY(ALL, create_module), DENY(ALL, query_module),
    DENY(ALL, get_kernel_syms), DENY(ALL, syslog), DENY(ALL, reboot), DENY(ALL, swapon), DENY(ALL, swapoff), DENY(ALL, acct),
    DENY(ALL, quotactl), DENY(ALL, quotactl_fd), DENY(ALL, iopl), DENY(ALL, ioperm), DENY(ALL, uselib), DENY(ALL, ustat),
    DENY(ALL, sysfs), DENY(ALL, _sysctl), DENY(ALL, vhangup), DENY(ALL, nfsservctl), DENY(ALL, lookup_dcookie),
    DENY(ALL, fanotify_init), DENY(ALL, open_by_handle_at), DENY(ALL, settimeofday), DENY(ALL, clock_settime),
    DENY(ALL, lsm_set_self_attr),

    // other processes: a debugger may start what it traces, and not take hold of what runs
    DENY_IF(USUAL, ptrace, 0, PTRACE_ATTACH), DENY_IF(USUAL, ptrace, 0, PTRACE_SEIZE), DENY(STRICT, ptrace),
    DENY(USUAL, process_vm_readv), DENY(USUAL, process_vm_writev), DENY(USUAL, pidfd_getfd), DENY(USUAL, kcmp),
    DENY(STRICT, process_madvise), DENY(STRICT, process_mrelease),

    // a terminal that somebody else reads
    DENY_IF(ALL, ioctl, 1, TYPE_FOR_USER), DENY_IF(ALL, ioctl, 1, TYPE_ON_CONSOLE),

    // sockets: no family but those of every program (AF_VSOCK would lead to the host, AF_ALG, AF_PACKET … to odd drivers)
    LET_IF(ALL, socket, 0, AF_UNIX), LET_IF(ALL, socket, 0, AF_INET), LET_IF(ALL, socket, 0, AF_INET6),
    LET_IF(ALL & ~STRICT, socket, 0, AF_NETLINK), {__NR_socket, ALL, ANY_CALL, 0, EAFNOSUPPORT, 0},

    // what a program can do without that was written to run in such a place
    DENY(STRICT, memfd_create), DENY(STRICT, memfd_secret), DENY(STRICT, modify_ldt), DENY(STRICT, name_to_handle_at),
    DENY(STRICT, fanotify_mark), DENY(STRICT, vmsplice), DENY(STRICT, mbind), DENY(STRICT, set_mempolicy),
    DENY(STRICT, migrate_pages), DENY(STRICT, move_pages), DENY(STRICT, sched_setattr), DENY(STRICT, remap_file_pages),
    DENY(STRICT, mknod), DENY(STRICT, mknodat), DENY(STRICT, adjtimex), DENY(STRICT, clock_adjtime),
    LET_IF(STRICT, personality, 0, ASK_PERSONALITY), LET_IF(STRICT, personality, 0, 0), DENY(STRICT, personality),
};

const size_t filter_rule_count = sizeof filter_rules / sizeof filter_rules[0];
