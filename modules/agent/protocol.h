// The numbers of the channel's protocol, as docs/reference/channel.md defines them.
#ifndef AGENT_PROTOCOL_H
#define AGENT_PROTOCOL_H

#define PROTOCOL_VERSION 2u
#define AGENT_VERSION "0.3.0"
#define PORT_NAME "mvm.agent"
#define DATA_SERIAL "data"

#define HEADER_BYTES 12u
#define MAX_PAYLOAD 65536u
#define MAX_TEXT 1024u
#define INITIAL_WINDOW 262144u
// Of the flows STDOUT and STDERR.
#define OUTPUT_WINDOW 1048576u
// Credit is returned in portions, so that small reads don't cost a frame each.
#define WINDOW_PORTION (INITIAL_WINDOW / 4u)
#define MAX_STREAMS 64u
#define MAX_PORTS 64u
#define MAX_WRITABLE 64u
#define MAX_PATH 4096u
#define MAX_HOSTNAME 64u
// Rows, or columns, of a terminal.
#define MAX_TERMINAL 4096u
// In COPY: whether a file that is in the way is replaced.
#define COPY_REPLACES 1u
// How deep directories may lie in one another, and how many records a copy may have.
#define COPY_DEPTH 64u
#define COPY_RECORDS 200000u
// In FILES: whether a directory is removed with all that is in it, and whether directories on the way are made.
#define FILES_RECURSIVE 1u
#define FILES_PARENTS 2u
// How many entries a listed directory may have.
#define FILES_ENTRIES 65536u
// How deep directories may lie in one another that are removed: each costs a descriptor, of which a process has 1,024.
#define FILES_DEPTH 512u
#define ENTROPY_BYTES 32u
#define MAX_SECRETS 32u
#define MAX_SECRET 16384u
#define MAX_SECRET_NAME 64u
#define MAX_SHARES 8u
#define MAX_SHARE_TAG 16u
#define MAC_BYTES 6u
// Of the subnet that a machine and its gateway are in, in bits.
#define LEAST_PREFIX 8u
#define MOST_PREFIX 30u
// The least is what every host takes (RFC 791, section 3.1), the most a large Ethernet frame's.
#define LEAST_MTU 576u
#define MOST_MTU 9000u

#define VERB_EXEC 1u
#define VERB_STREAM 2u
#define VERB_SHELL 4u
#define VERB_COPY 8u
#define VERB_ALL (VERB_EXEC | VERB_STREAM | VERB_SHELL | VERB_COPY)
// Beside the verbs, in the same word: the scratch space lists its directories in reverse.
#define OPTION_REVERSED 0x10000u
// In the same word: secrets follow the ports.
#define OPTION_SECRETS 0x20000u
// In the same word: shares follow the secrets.
#define OPTION_SHARES 0x40000u
// In the same word: limits follow those.
#define OPTION_LIMITS 0x80000u
// In the same word: a place for the data disk follows those.
#define OPTION_DATA 0x100000u
// In the same word: a network follows that.
#define OPTION_NETWORK 0x200000u
#define MAX_TASKS 4194304u

enum frame_type {
    FRAME_HELLO = 1,
    FRAME_CONFIG,
    FRAME_READY,
    FRAME_FAILED,
    FRAME_RUN,
    FRAME_EXEC,
    FRAME_STARTED,
    FRAME_STDIN,
    FRAME_STDOUT,
    FRAME_STDERR,
    FRAME_SIGNAL,
    FRAME_EXIT,
    FRAME_OPEN,
    FRAME_DATA,
    FRAME_EOF,
    FRAME_RESET,
    FRAME_WINDOW,
    FRAME_PING,
    FRAME_PONG,
    FRAME_SHUTDOWN,
    FRAME_BYE,
    FRAME_RESIZE,
    FRAME_SHELL,
    FRAME_COPY,
    FRAME_TIME,
    FRAME_FILES,
    FRAME_FREEZE,
    FRAME_FROZEN,
    FRAME_NOT_FROZEN,
    FRAME_THAW,
    FRAME_THAWED,
};

// What a share is: a file system that the host serves, or an image of one on a disk.
enum share_kind { SHARE_VIRTIOFS = 1, SHARE_EROFS };

// How much of the kernel a workload may ask for: filter_table.c.
enum tier { TIER_DEFAULT, TIER_STRICT, TIER_NAMESPACES, TIERS };

// Why a guest can't be set up, in FAILED: a place of a share or the data disk where nothing can be mounted, or anything else.
enum failure { FAILURE_OTHER, FAILURE_MOUNT_POINT };

// How a command ended, in EXIT.
enum end { END_EXITED = 1, END_SIGNALED, END_TIMED_OUT, END_NOT_STARTED, END_REFUSED };
// What could not be done, with END_NOT_STARTED.
enum step { STEP_NONE, STEP_PREPARE, STEP_IDENTITY, STEP_DIRECTORY, STEP_EXECUTE };
// Why a command was refused, with END_REFUSED.
enum refusal { REFUSED_VERB = 1, REFUSED_ROOT, REFUSED_TOO_MANY };
// In EXIT: the command failed, and since its start the kernel has ended a process of some command for want of memory.
#define EXIT_OUT_OF_MEMORY 1u
// In THAW: the machine was restored, and another process of the host's speaks.
#define THAW_RENEWED 1u
// In THAWED: the configuration's command was started and has not ended.
#define THAWED_RUNS 1u

#endif
