/*
 * Protocol of the runner, version 1: worker <-> PID 1 of a sandbox container, over the runner's stdin and stdout or a socket.
 *
 * All numbers are little endian. A frame is
 *
 *     u32 length (of type and payload together, 1 .. 64 MiB), u8 type, payload
 *
 * str16 is a u16 length and that many bytes. Times are nanoseconds, sizes are bytes. One job at a time per container.
 *
 * Worker -> runner
 * ----------------
 * 0x01 JOB       u32 job_id
 *                u8  mode               0 exec; 1 fork server (where it is possible, else as 0);
 *                                       2 warm interpreter (where WARM has started it with the same argv and environment,
 *                                       else as 0)
 *                u8  flags              bit 0: stderr goes into the same capture as stdout (compilers)
 *                u16 runs               1 .. 4096
 *                u16 files              how many FILE, KEEP and KEPT frames follow
 *                u16 parallel           bound on runs at once; 0 = start none until PARALLEL says so
 *                u16 cpu                the CPU on which the runner works and runs begin, counted from 1 through the CPUs that
 *                                       the container may use and around; 0 = any
 *                u64 cpu_ns             user + system, of the run's whole process tree
 *                u64 wall_ns
 *                u64 memory_bytes       resident, of the process tree
 *                u64 address_space      RLIMIT_AS of each process, 0 = none
 *                u64 output_bytes       of each stream, at most 31 MiB; exactly as much is still fine
 *                u64 file_bytes         RLIMIT_FSIZE, literally (all ones = none); it must be over output_bytes, or a flood
 *                                       ends at RLIMIT_FSIZE without ever being over output_bytes
 *                u64 stack_bytes        RLIMIT_STACK, 0 = unlimited
 *                u32 processes          RLIMIT_NPROC, threads count; 0 is taken as 1
 *                u64 collect_max_bytes  of all collected files together
 *                u16 argc,     argc x str16     argv[0] without '/' is looked up in the PATH of the given environment
 *                u16 envc,     envc x str16     "NAME=value"; the run gets exactly these
 *                u16 collectc, collectc x str16 paths relative to the run's cwd; ending in '/' = a tree; needs runs == 1
 *                The payload is at most 128 KiB; NUL bytes inside strings are malformed.
 * 0x02 FILE      u32 mode (low 9 bits count), str16 name, rest = content of /box/<name>, owned by root. The name is relative,
 *                without empty, "." or ".." parts, and not below ".kept". Exactly `files` of them, KEEP and KEPT included, belong
 *                to a JOB.
 * 0x08 KEEP      u64 id, u32 mode, str16 name, rest = content: a FILE that the container also keeps under this id for later jobs, as
 *                far as KEPT_FILES and KEPT_BYTES go; what was used longest ago makes room. Replaces what the id named before.
 * 0x09 KEPT      u64 id, str16 name: a FILE with the content and mode that are kept under the id. If there is none, the answer is
 *                NEEDED, and a KEEP (or FILE) must follow in its place.
 * 0x03 INPUT     u32 index, rest = stdin of run `index`. Exactly `runs` of them belong to a JOB, cancelled ones included. FILE
 *                and INPUT may come in any order; a run starts when all FILEs and its own INPUT are there.
 * 0x04 CANCEL    u32 job_id, u32 from_index: runs with index >= from_index are not started, running ones are killed; both are
 *                answered with CANCELLED and empty output. Ignored for another job (it crossed a DONE).
 * 0x05 PING      empty; answered with PONG.
 * 0x06 PARALLEL  u32 job_id, u16 parallel: new bound; running runs go on, and RUNNING follows. Ignored for another job.
 * 0x07 WARM      u16 argc, argc x str16, u16 envc, envc x str16, as in JOB, argv[1] being the program's source, which is not there
 *                yet: starts the container's warm interpreter. At most once, between jobs; a PING behind it is answered when the
 *                interpreter is ready. If it cannot be started, jobs of mode 2 are served as mode 0.
 * 0x0A MOVE      16 bytes, a token: connect to the socket MOVE_PATH, send the token, take the descriptor of another socket that comes
 *                with one byte, and go on over that. At most once, between jobs, with nothing behind it before the answer.
 * Any byte from the worker resets the dead-man timer.
 *
 * Runner -> worker
 * ----------------
 * 0x81 HELLO     u32 version (1), u32 features (bit 0: a fork server is installed, bit 1: a warm interpreter
 *                is, bit 2: KEEP and KEPT are known, bit 3: PARALLEL is answered, bit 4: MOVE is known). First frame, sent at start.
 * 0x82 RESULT    u32 index
 *                u8  outcome     enum outcome below. CANCELLED and INTERNAL stand above all, then
 *                                OUTPUT > MEMORY > CPU > WALL > SIGNALED / EXITED
 *                i32 code        signal if the main process died of one, else its exit code; errno for INTERNAL. A file in
 *                                /box that the kernel takes for no program is EXITED with 126
 *                u8  died        1 = code is a signal
 *                u64 user_ns, u64 sys_ns, u64 wall_ns, u64 peak_bytes
 *                u8  flags       1 stdout was cut, 2 stderr was cut, 4 the container's OOM killer fired during the run,
 *                                8 forked by a fork server, 16 forked by a warm interpreter
 *                u32 stdout length, stdout, rest = stderr
 *                Sent when a run ends, in the order of ending; up to 6 ms later while others of the job run.
 * 0x83 COLLECTED u32 mode (low 9 bits), str16 name relative to the cwd, rest = content. After the RESULT, if that was EXITED
 *                with code 0.
 * 0x87 COLLECT_FAILED  text: something asked for is missing, not a regular file with one link, too deep, too many or too large.
 *                No COLLECTED is sent then.
 * 0x88 NEEDED    u64 id of a KEPT: nothing is kept under it, and the job waits for it.
 * 0x89 RUNNING   u32 job_id, u16 runs under way: as soon as they are no more than the bound of the last PARALLEL. Not sent when the
 *                job ends first.
 * 0x8A MOVED     text: why not, and all stays as it was. Empty: this was the last frame over stdout.
 * 0x84 DONE      u32 job_id, u8 clean, text. clean 1: reset done and verified, the container may take the next job. clean 0: it
 *                must be destroyed; text says why.
 * 0x85 PONG      empty.
 * 0x86 FATAL     text; the runner exits (malformed frames, broken container).
 *
 * Exit codes of the runner: 0 stdin or the socket closed, or SIGTERM, 1 wrong arguments, 2 after FATAL, 3 dead-man timer, 4 stdout or the socket closed.
 */
#ifndef PROTOCOL_H
#define PROTOCOL_H

#define PROTOCOL_VERSION 1u
#define FEATURE_FORK_SERVER 1u
#define FEATURE_WARM_INTERPRETER 2u
#define FEATURE_KEPT_FILES 4u
#define FEATURE_ANSWERS_PARALLEL 8u
#define FEATURE_MOVE 16u

#define MAX_FRAME_BYTES (64u << 20)
/* Two streams and the head of a RESULT must fit into one frame. */
#define MAX_OUTPUT_BYTES (31u << 20)
/* Bounds what the parser must hold at once (execve itself takes at most 128 KiB in one string). */
#define MAX_JOB_BYTES (128u << 10)
#define MAX_RUNS 4096u
#define MAX_STRINGS 4096u
#define MAX_NAME_BYTES 4096u
#define MAX_COLLECT_FILES 4096u
#define MAX_COLLECT_DEPTH 16u
/* More programs than usually take turns in a container, and room for them: a C++ program has 0.6 to 3 MB. */
#define KEPT_FILES 24u
#define KEPT_BYTES (32u << 20)
#define MOVE_PATH "/run/evalx/worker"
#define MOVE_TOKEN_BYTES 16u

enum frame_type {
    FRAME_JOB = 0x01,
    FRAME_FILE = 0x02,
    FRAME_INPUT = 0x03,
    FRAME_CANCEL = 0x04,
    FRAME_PING = 0x05,
    FRAME_PARALLEL = 0x06,
    FRAME_WARM = 0x07,
    FRAME_KEEP = 0x08,
    FRAME_KEPT = 0x09,
    FRAME_MOVE = 0x0A,
    FRAME_HELLO = 0x81,
    FRAME_RESULT = 0x82,
    FRAME_COLLECTED = 0x83,
    FRAME_DONE = 0x84,
    FRAME_PONG = 0x85,
    FRAME_FATAL = 0x86,
    FRAME_COLLECT_FAILED = 0x87,
    FRAME_NEEDED = 0x88,
    FRAME_RUNNING = 0x89,
    FRAME_MOVED = 0x8A,
};

enum job_mode { MODE_EXEC = 0, MODE_FORK_SERVER = 1, MODE_WARM_INTERPRETER = 2 };

enum job_flag { JOB_MERGE_STDERR = 1 };

enum outcome {
    OUTCOME_EXITED = 0,
    OUTCOME_SIGNALED = 1,
    OUTCOME_CPU_LIMIT = 2,
    OUTCOME_WALL_LIMIT = 3,
    OUTCOME_MEMORY_LIMIT = 4,
    OUTCOME_OUTPUT_LIMIT = 5,
    OUTCOME_CANCELLED = 6,
    OUTCOME_INTERNAL = 7,
};

enum result_flag { RESULT_STDOUT_CUT = 1, RESULT_STDERR_CUT = 2, RESULT_OOM_KILL = 4, RESULT_SERVED = 8, RESULT_WARM = 16 };

enum exit_code { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_FATAL = 2, EXIT_DEAD_MAN = 3, EXIT_STDOUT_CLOSED = 4 };

#endif
