// Finds the processes of a session in /proc and kills them all.
#ifndef AGENT_SESSIONS_H
#define AGENT_SESSIONS_H

#include <stdbool.h>
#include <sys/types.h>

// Whether the agent has children beside those that `known` knows: whoever loses its parent becomes the agent's child, so
// where there is none, a session whose main process has ended has no other process either.
bool orphans_exist(bool (*known)(pid_t pid));

// Send SIGKILL to every process of the session, again until a look at /proc finds none that isn't dead.
void session_kill(pid_t session);

#endif
