/* Inbox of the rollups: one account for each, with a count of its postings and a rolling hash over them.
 *
 * What the bytes of instructions and accounts are is written in nodes/rules/inbox.py; what they are for, in
 * docs/inbox.md. The first account of every instruction is whoever pays; it must have signed.
 *
 * The program does not look into what is posted: whether it means anything is decided by every reader in the same way.
 * So all that may fail here is what would make the count of a rollup wrong.
 */
#include "abi.h"
#include "syscalls.h"

enum { INIT = 0, POST = 1, CHUNK = 2, COMMIT = 3 };
enum { FORMAT = 1, STATE_VERSION = 1 };
enum { INIT_BYTES = 34, CHUNK_HEAD_BYTES = 36, COMMIT_BYTES = 36, STATE_BYTES = 88 };
enum { AT_ROLLUP_ID = 8, AT_SEQUENCE = 40, AT_DATA_BYTES = 48, AT_ROLLING_HASH = 56 }; /* in the state */

/* The table of errors; nodes/solana/program.py has the same one with a text for each. */
enum {
    UNKNOWN_TAG = 100,
    UNKNOWN_FORMAT = 101,
    WRONG_LENGTH = 102,
    PAYER_MISSING = 103,
    ROLLUP_MISSING = 104,
    ACCOUNT_REPEATED = 105,
    NOT_WRITABLE = 106,
    FOREIGN_OWNER = 107,
    NOT_A_STATE = 108,
    CALLED_BY_PROGRAM = 109,
    WRONG_ADDRESS = 110,
    INITIALIZED_BEFORE = 111,
};

static const u8 SEED[] = {'r', 'o', 'l', 'l', 'u', 'p'};
static const u8 SYSTEM_PROGRAM[KEY_BYTES] = {0};

/* What the entry point found in the input. */
typedef struct {
    u8 *first_account;
    u64 account_count;
    const u8 *data;
    u64 data_length;
    const u8 *program_id;
} Call;

/* The event of an account is its new state, as `Program data:` in the log. */
static void log_state(const u8 *state) {
    Slice event = {state, STATE_BYTES};
    sol_log_data(&event, 1);
}

/* rolling hash' = SHA-256(rolling hash | sequence | SHA-256(data)); sequence' = sequence + 1; data_bytes' += length */
static u64 roll(u8 *account, const Call *call, const u8 *data_hash) {
    if (*account != FIRST_USE) return CUSTOM(ACCOUNT_REPEATED);
    if (!account[AT_IS_WRITABLE]) return CUSTOM(NOT_WRITABLE);
    if (!same_key(account + AT_OWNER, call->program_id)) return CUSTOM(FOREIGN_OWNER);
    u8 *state = account + AT_DATA;
    /* The length first: behind shorter data there is nothing to read. */
    if (load_u64(account + AT_DATA_LENGTH) != STATE_BYTES || state[0] != STATE_VERSION) return CUSTOM(NOT_A_STATE);

    Slice parts[3] = {{state + AT_ROLLING_HASH, 32}, {state + AT_SEQUENCE, 8}, {data_hash, 32}};
    u64 rolled[4];
    sol_sha256(parts, 3, (u8 *)rolled);
    u64 *rolling_hash = (u64 *)(state + AT_ROLLING_HASH);
    for (int i = 0; i < 4; i++) rolling_hash[i] = rolled[i];
    *(u64 *)(state + AT_SEQUENCE) += 1;
    *(u64 *)(state + AT_DATA_BYTES) += call->data_length;
    log_state(state);
    return 0;
}

/* POST and COMMIT. One refused account fails the transaction, and with it what was written to the others. */
static u64 post(const Call *call) {
    /* A reader sees top-level instructions only: called by another program, a posting would pass it by. */
    if (sol_get_stack_height() != 1) return CUSTOM(CALLED_BY_PROGRAM);
    if (call->account_count < 2) return CUSTOM(ROLLUP_MISSING);
    u8 data_hash[32];
    Slice data = {call->data, call->data_length};
    sol_sha256(&data, 1, data_hash);
    u8 *account = call->first_account;
    for (u64 i = 1; i < call->account_count; i++) {
        account = after_account(account);
        u64 error = roll(account, call, data_hash);
        if (error) return error;
    }
    return 0;
}

/* One instruction of the System program on `info`, signed for by the seeds. */
static u64 call_system(AccountInfo *info, const u8 *data, u64 length, const SignerSeeds *signer) {
    AccountMeta meta = {info->key, 1, 1};
    Instruction instruction = {SYSTEM_PROGRAM, &meta, 1, data, length};
    return sol_invoke_signed_c(&instruction, info, 1, signer, 1);
}

/* Accounts: payer, the rollup's account, the System program. The account must have its rent already: whoever sends the
 * transaction knows today's price, and nobody can block an address by sending lamports to it. */
static u64 init(const Call *call) {
    if (call->data_length != INIT_BYTES) return CUSTOM(WRONG_LENGTH);
    if (call->account_count < 2) return CUSTOM(ROLLUP_MISSING);
    u8 *account = after_account(call->first_account);
    if (*account != FIRST_USE) return CUSTOM(ACCOUNT_REPEATED);
    if (!account[AT_IS_WRITABLE]) return CUSTOM(NOT_WRITABLE);

    const u8 *rollup_id = call->data + 2;
    u8 bump = 0;
    u64 address[4];
    Slice seeds[3] = {{SEED, sizeof(SEED)}, {rollup_id, KEY_BYTES}, {&bump, 1}};
    /* The highest bump only, so that a rollup has one account. */
    if (sol_try_find_program_address(seeds, 2, call->program_id, (u8 *)address, &bump) || bump != call->data[1] ||
        !same_key((const u8 *)address, account + AT_KEY))
        return CUSTOM(WRONG_ADDRESS);
    if (same_key(account + AT_OWNER, call->program_id)) return CUSTOM(INITIALIZED_BEFORE);

    AccountInfo info = {account + AT_KEY,   (u64 *)(account + AT_LAMPORTS), load_u64(account + AT_DATA_LENGTH),
                        account + AT_DATA,  account + AT_OWNER,             0,
                        account[AT_IS_SIGNER], account[AT_IS_WRITABLE],     account[AT_IS_EXECUTABLE]};
    SignerSeeds signer = {seeds, 3};
    /* Numbers of the System program's instructions: 8 Allocate(u64 space), 1 Assign(owner). */
    u32 allocate[3] = {8, STATE_BYTES, 0};
    u64 error = call_system(&info, (const u8 *)allocate, sizeof(allocate), &signer);
    if (error) return error;
    u32 assign[9] = {1};
    for (int i = 0; i < 8; i++) assign[1 + i] = ((const u32 *)call->program_id)[i];
    error = call_system(&info, (const u8 *)assign, sizeof(assign), &signer);
    if (error) return error;

    Clock clock;
    error = sol_get_clock_sysvar((u8 *)&clock);
    if (error) return error;
    /* The rest of the new account is zero already. */
    u8 *state = account + AT_DATA;
    *(u64 *)state = STATE_VERSION | (u64)bump << 8 | clock.slot << 16;
    for (int i = 0; i < KEY_BYTES; i++) state[AT_ROLLUP_ID + i] = rollup_id[i];
    log_state(state);
    return 0;
}

u64 entrypoint(u8 *input) {
    u8 *at = input + sizeof(u64);
    Call call = {.first_account = at, .account_count = load_u64(input)};
    for (u64 i = 0; i < call.account_count; i++) at = after_account(at);
    call.data_length = load_u64(at);
    call.data = at + sizeof(u64);
    call.program_id = call.data + call.data_length;

    if (call.account_count == 0 || !call.first_account[AT_IS_SIGNER]) return CUSTOM(PAYER_MISSING);
    if (call.data_length < 2) return CUSTOM(WRONG_LENGTH);
    u8 tag = call.data[0];
    if (tag == INIT) return init(&call);
    if (tag > COMMIT) return CUSTOM(UNKNOWN_TAG);
    if (call.data[1] != FORMAT) return CUSTOM(UNKNOWN_FORMAT);
    if (tag == CHUNK) return call.data_length > CHUNK_HEAD_BYTES ? 0 : CUSTOM(WRONG_LENGTH);
    if (tag == COMMIT && call.data_length != COMMIT_BYTES) return CUSTOM(WRONG_LENGTH);
    return post(&call);
}
