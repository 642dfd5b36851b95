// The numbers of the channel's protocol, as docs/channel.md defines them.
#ifndef AGENT_PROTOCOL_H
#define AGENT_PROTOCOL_H

#define PROTOCOL_VERSION 1u
#define AGENT_VERSION "0.1.0"
#define PORT_NAME "mvm.agent"

#define HEADER_BYTES 12u
#define MAX_PAYLOAD 65536u
#define MAX_TEXT 1024u
#define INITIAL_WINDOW 262144u
// Credit is returned in portions, so that small reads don't cost a frame each.
#define WINDOW_PORTION (INITIAL_WINDOW / 4u)
#define MAX_STREAMS 64u
#define MAX_PORTS 64u
#define MAX_WRITABLE 64u
#define MAX_PATH 4096u
#define MAX_HOSTNAME 64u
#define ENTROPY_BYTES 32u

#define VERB_EXEC 1u
#define VERB_STREAM 2u
#define VERB_ALL (VERB_EXEC | VERB_STREAM)
// Beside the verbs, in the same word: the scratch space lists its directories in reverse.
#define OPTION_REVERSED 0x10000u

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
};

// How a command ended, in EXIT.
enum end { END_EXITED = 1, END_SIGNALED, END_TIMED_OUT, END_NOT_STARTED, END_REFUSED };
// What could not be done, with END_NOT_STARTED.
enum step { STEP_NONE, STEP_PREPARE, STEP_IDENTITY, STEP_DIRECTORY, STEP_EXECUTE };
// Why a command was refused, with END_REFUSED.
enum refusal { REFUSED_VERB = 1, REFUSED_ROOT, REFUSED_TOO_MANY };

#endif
