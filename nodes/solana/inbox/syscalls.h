/* Written by build.py; edit the table there. What the program calls in the runtime. */
#ifndef SYSCALLS_H
#define SYSCALLS_H
#include "abi.h"
#ifdef STATIC_CALLS
static u64 (*const sol_log_data)(const Slice *fields, u64 count) = (void *)0x7317b434UL;
static u64 (*const sol_sha256)(const Slice *parts, u64 count, u8 *hash) = (void *)0x11f49d86UL;
static u64 (*const sol_try_find_program_address)(const Slice *seeds, u64 count, const u8 *program_id, u8 *address, u8 *bump) = (void *)0x48504a38UL;
static u64 (*const sol_invoke_signed_c)(const Instruction *call, const AccountInfo *infos, u64 count, const SignerSeeds *signers, u64 signer_count) = (void *)0xa22b9c85UL;
static u64 (*const sol_get_clock_sysvar)(u8 *clock) = (void *)0xd56b5fe9UL;
static u64 (*const sol_get_stack_height)(void) = (void *)0x85532d94UL;
#else
extern u64 sol_log_data(const Slice *fields, u64 count);
extern u64 sol_sha256(const Slice *parts, u64 count, u8 *hash);
extern u64 sol_try_find_program_address(const Slice *seeds, u64 count, const u8 *program_id, u8 *address, u8 *bump);
extern u64 sol_invoke_signed_c(const Instruction *call, const AccountInfo *infos, u64 count, const SignerSeeds *signers, u64 signer_count);
extern u64 sol_get_clock_sysvar(u8 *clock);
extern u64 sol_get_stack_height(void);
#endif
#endif
