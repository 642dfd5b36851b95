// Stops the workload at the host's word, so that the machine can be saved, and has it go on, renewed before it does.
#ifndef AGENT_FREEZE_H
#define AGENT_FREEZE_H

#include <stdbool.h>

#include "frames.h"

// What is paused beside the streams while the workload stands: the caller's own part.
typedef int (*hold_others)(bool hold);

// Whether FREEZE has been said, and neither NOT_FROZEN nor THAWED was answered: nothing is handled but by this module.
bool freeze_is_on(void);
// Take FREEZE; answered by FROZEN, or by NOT_FROZEN when the time in it is over.
int freeze_start(const struct frame *frame, hold_others hold);
// Go on with it, after each turn of the loop; -1 with error_set() called when the workload can't be let go on.
int freeze_step(void);
// Take THAW: 1 when it was renewed and goes on, 0 when it could not be renewed (with error_set() called) and stands, -1 (with
// error_set() called) when the frame breaks the protocol or the workload can't be let go on.
int freeze_thaw(const struct frame *frame);

#endif
