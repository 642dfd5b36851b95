// Tells the host how a command ended, or why there was none.
#include "exit_report.h"

#include "bytes.h"
#include "channel.h"

void send_exit(uint32_t stream, enum end end, enum step step, uint16_t flags, uint32_t code)
{
    uint8_t payload[8] = {(uint8_t)end, (uint8_t)step};
    put_number(payload + 2, 2, flags);
    put_number(payload + 4, 4, code);
    channel_send(FRAME_EXIT, stream, payload, sizeof payload);
}
