// Tells the host how a command ended, or why there was none.
#include "ends.h"

#include <sys/wait.h>

#include "bytes.h"
#include "channel.h"

void send_exit(uint32_t stream, enum end end, enum step step, uint32_t code)
{
    uint8_t payload[8] = {(uint8_t)end, (uint8_t)step};
    put_number(payload + 4, 4, code);
    channel_send(FRAME_EXIT, stream, payload, sizeof payload);
}

void send_end(const struct command *command)
{
    if (command->failed)
        send_exit(command->stream, END_NOT_STARTED, (enum step)command->failure.step, (uint32_t)command->failure.number);
    else if (command->timed_out)
        send_exit(command->stream, END_TIMED_OUT, STEP_NONE, 0);
    else if (WIFSIGNALED(command->status))
        send_exit(command->stream, END_SIGNALED, STEP_NONE, (uint32_t)WTERMSIG(command->status));
    else
        send_exit(command->stream, END_EXITED, STEP_NONE, (uint32_t)WEXITSTATUS(command->status));
}
