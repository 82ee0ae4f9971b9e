/* tests/sim/speak.h - what a client writes and reads: tokens, the upgrade, frames, messages. */
#pragma once

#include "seam/message.h"
#include "sim/sim.h"

void speak_upgrade(struct sim_client *client);
void speak_websocket(struct sim_socket *socket, uint8_t opcode, struct tp_slice payload);
/* Bytes of the first frame of `in`, 0: it is not whole. */
size_t speak_frame(struct tp_slice in, uint8_t *opcode, struct tp_slice *payload);

void speak_encode(enum sim_dialect dialect, uint32_t document, struct tp_message *message,
                  struct tp_buffer *out);
bool speak_decode(struct sim_client *client, struct tp_slice payload,
                  void (*hear)(void *client, struct tp_message *message));
/* Which document it is about. NULL: the one of a y-websocket connection. */
uint32_t speak_document(const struct tp_message *message, const struct sim_client *client);
void speak_awareness(uint64_t author, uint64_t clock, struct tp_buffer *out);
