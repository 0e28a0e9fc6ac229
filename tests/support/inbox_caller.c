/* Calls the inbox program from a program, as anybody's program could: hands on its data and its first two accounts to
 * the program that is its third. Built like inbox.c, into inbox_caller.so beside it (see test_inbox_build.py). */
#include "abi.h"
#include "syscalls.h"

u64 entrypoint(u8 *input) {
    u8 *payer = input + sizeof(u64);
    u8 *rollup = after_account(payer);
    u8 *program = after_account(rollup);
    u8 *data = after_account(program);

    AccountMeta metas[2] = {{payer + AT_KEY, 1, 1}, {rollup + AT_KEY, 1, 0}};
    AccountInfo infos[2];
    u8 *accounts[2] = {payer, rollup};
    for (int i = 0; i < 2; i++) {
        u8 *account = accounts[i];
        infos[i].key = account + AT_KEY;
        infos[i].lamports = (u64 *)(account + AT_LAMPORTS);
        infos[i].data_length = load_u64(account + AT_DATA_LENGTH);
        infos[i].data = account + AT_DATA;
        infos[i].owner = account + AT_OWNER;
        infos[i].rent_epoch = 0;
        infos[i].is_signer = account[AT_IS_SIGNER];
        infos[i].is_writable = account[AT_IS_WRITABLE];
        infos[i].is_executable = account[AT_IS_EXECUTABLE];
    }
    Instruction call = {program + AT_KEY, metas, 2, data + sizeof(u64), load_u64(data)};
    return sol_invoke_signed_c(&call, infos, 2, 0, 0);
}
