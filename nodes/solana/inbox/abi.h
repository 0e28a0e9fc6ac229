/* What a Solana program is given and may call: the input buffer of a loader v3 program, and the structures of a CPI.
 * Sources: docs.anza.xyz (C SDK, solana_sdk.h); offsets instead of an array of structures, because a stack frame has
 * 4 kB and there may be 255 accounts.
 */
#ifndef ABI_H
#define ABI_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

#define KEY_BYTES 32
#define CUSTOM(code) ((u64)(code)) /* what a program returns becomes InstructionError::Custom */

/* The input: u64 number of accounts, the accounts, u64 length of the instruction data, the data, the program's id.
 * An account that was given before is 8 bytes long and begins with the index of the first time. Every other begins
 * with FIRST_USE; after its data there is room to grow into, padding to 8 bytes, and u64 rent epoch. */
enum {
    FIRST_USE = 0xff,
    AT_IS_SIGNER = 1,
    AT_IS_WRITABLE = 2,
    AT_IS_EXECUTABLE = 3,
    AT_KEY = 8,
    AT_OWNER = 40,
    AT_LAMPORTS = 72,
    AT_DATA_LENGTH = 80,
    AT_DATA = 88,
    ROOM_TO_GROW = 10240,
    REPEATED_BYTES = 8,
};

typedef struct {
    const u8 *start;
    u64 length;
} Slice;

typedef struct {
    const Slice *seeds;
    u64 count;
} SignerSeeds;

typedef struct {
    const u8 *key;
    u8 is_writable;
    u8 is_signer;
} AccountMeta;

typedef struct {
    const u8 *program_id;
    const AccountMeta *accounts;
    u64 account_count;
    const u8 *data;
    u64 data_length;
} Instruction;

typedef struct {
    u8 *key;
    u64 *lamports;
    u64 data_length;
    u8 *data;
    u8 *owner;
    u64 rent_epoch;
    u8 is_signer;
    u8 is_writable;
    u8 is_executable;
} AccountInfo;

typedef struct {
    u64 slot;
    long epoch_start_time_s;
    u64 epoch;
    u64 leader_schedule_epoch;
    long time_s;
} Clock;

/* Loads of SBPF need no alignment: the program's id stands behind instruction data of any length. */
static inline __attribute__((always_inline)) u64 load_u64(const u8 *from) { return *(const u64 *)from; }

static inline __attribute__((always_inline)) int same_key(const u8 *a, const u8 *b) {
    return load_u64(a) == load_u64(b) && load_u64(a + 8) == load_u64(b + 8) &&
           load_u64(a + 16) == load_u64(b + 16) && load_u64(a + 24) == load_u64(b + 24);
}

/* Where the next account begins, or the length of the data after the last one. */
static inline __attribute__((always_inline)) u8 *after_account(u8 *account) {
    if (*account != FIRST_USE) return account + REPEATED_BYTES;
    u64 end = (u64)account + AT_DATA + load_u64(account + AT_DATA_LENGTH) + ROOM_TO_GROW;
    return (u8 *)((end + 7) / 8 * 8 + sizeof(u64));
}

#endif
