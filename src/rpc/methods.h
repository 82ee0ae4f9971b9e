/* src/rpc/methods.h - every remote method, by its name on the wire: add a line. */
#pragma once

#include "rpc/call.h"

/* name, right, turn, function for requests, function for parts of a client's stream or NULL */
#define TP_RPC_METHODS(X)                                                                        \
    X("fileUpload", TP_MAY_WRITE, TP_RPC_ANY_TIME, tp_rpc_file_upload, tp_rpc_file_part)         \
    X("fileDownload", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_file_download, NULL)                  \
    X("milestoneList", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_milestone_list, NULL)                \
    X("milestoneGet", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_milestone_get, NULL)                  \
    X("milestoneCreate", TP_MAY_WRITE, TP_RPC_TURN_MILESTONES, tp_rpc_milestone_create, NULL)    \
    X("milestoneUpdateName", TP_MAY_WRITE, TP_RPC_TURN_MILESTONES, tp_rpc_milestone_update_name, \
      NULL)                                                                                      \
    X("milestoneDelete", TP_MAY_WRITE, TP_RPC_TURN_MILESTONES, tp_rpc_milestone_delete, NULL)    \
    X("milestoneRestore", TP_MAY_WRITE, TP_RPC_TURN_MILESTONES, tp_rpc_milestone_restore, NULL)  \
    X("keysGet", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_keys_get, NULL)                            \
    X("keysMeta", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_keys_meta, NULL)                          \
    X("keysSet", TP_MAY_WRITE, TP_RPC_TURN_KEYS, tp_rpc_keys_set, NULL)                          \
    X("keysRevoke", TP_MAY_WRITE, TP_RPC_TURN_KEYS, tp_rpc_keys_revoke, NULL)                    \
    X("keysRotate", TP_MAY_WRITE, TP_RPC_TURN_KEYS, tp_rpc_keys_rotate, NULL)                    \
    X("attributionActivity", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_attribution_activity, NULL)    \
    X("attributionGet", TP_MAY_READ, TP_RPC_ANY_TIME, tp_rpc_attribution_get, NULL)              \
    X("attributionGetIncremental", TP_MAY_READ, TP_RPC_ANY_TIME,                                 \
      tp_rpc_attribution_get_incremental, NULL)

tp_rpc_step tp_rpc_file_part;

#define TP_RPC_DECLARE(name, needs, turn, handle, part) tp_rpc_step handle;
TP_RPC_METHODS(TP_RPC_DECLARE)
#undef TP_RPC_DECLARE
