//! The agent's RPC, generated from `proto/agent.proto`.
#![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]

tonic::include_proto!("mvm.agent.v1");
