/* src/rpc/milestones.h - what both kinds of milestones have in common: those that clients make
 * (milestones.c) and those that are made by themselves (automatic.c). */
#pragma once

#include "rpc/call.h"
#include "wire/container.h"
#include "wire/record.h"

#define TP_MILESTONE_KEY_SIZE 17u /* number, kind, nth */

/* What the methods keep between their functions. */
struct tp_milestone_state {
    uint8_t keys[4][TP_MILESTONE_KEY_SIZE];
    bool include_deleted;
    bool is_automatic;
    struct tp_slice id, name, snapshot; /* in the request, or in memory of the call */
    char new_id[TP_UUID_SIZE];
    struct tp_message_update container; /* of the snapshot; a bare update is its v2 */
    struct tp_buffer value;             /* the meta's row to write */
    struct tp_buffer made;              /* automatic: the snapshot */
    struct tp_session_content content;
};

struct tp_milestone_state *tp_rpc_milestone_begin(struct tp_rpc *rpc, struct tp_rpc_call *call);
tp_rpc_step tp_rpc_milestone_free; /* the calls' `finish` */
/* Stores state->snapshot, which is sound, as a new milestone, and ends the call. */
tp_rpc_step tp_rpc_milestone_keep;

extern const struct tp_rpc_method tp_rpc_automatic_method;
