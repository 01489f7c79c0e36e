"""Makes another process, which stands still, do system calls: its own code never runs meanwhile. x86_64 only.

The tracer is trusted, the traced process is not: nothing of it is believed but what the kernel says.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import time
from collections.abc import Sequence

from lading.sandbox.inside import kernel

_CONTINUE, _GET_REGISTERS, _SET_REGISTERS, _STEP, _DETACH = 7, 12, 13, 9, 17
_EVENT_MESSAGE, _SEIZE, _INTERRUPT = 0x4201, 0x4206, 0x4207
_OPTIONS = 0x00100000 | 0x2 | 0x4 | 0x8
"""EXITKILL, and the events of fork, vfork and clone."""
_EVENTS = (1, 2, 3)
_SET_IDENTITY = 0x01000000 | 0x00200000
"""CLONE_CHILD_SETTID and CLONE_CHILD_CLEARTID: as a C library's own fork does."""
_GET_SEQUENCE = 0x420F
_SEQUENCE = struct.Struct("QIIII")
_GET_IDENTITY = 40
"""PR_GET_TID_ADDRESS."""
_WAIT_ALL = 0x40000000
_WORD = 1 << 64
_ERRORS = 4096
_INSTRUCTION = b"\x0f\x05"
_MOST_SIGNALS = 64
_RESTARTED = (512, 513, 514, 516)
"""What a call that is interrupted returns, inside the kernel."""
READ = 0
_SCRATCH = 16_384

CALLS = {
    "write": 1, "mmap": 9, "mprotect": 10, "recvmsg": 47, "clone": 56, "setsid": 112, "setgroups": 116,
    "setresuid": 117, "setresgid": 119, "capset": 126, "prctl": 157, "dup3": 292, "prlimit64": 302,
    "setns": 308, "rseq": 334, "close_range": 436,
}  # fmt: skip
"""System call numbers of x86_64."""
_LOOP = bytes.fromhex(
    "488b03"  # loop: mov rax, [rbx]: the number, then the arguments
    "488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30"  # mov rdi, rsi, rdx, r10, r8, r9
    "0f05 488903"  # syscall; mov [rbx], rax: its result in place of its number
    "4885c0 7809"  # test rax, rax; js end
    "4883c338 48ffcd 75d2"  # add rbx, 56; dec rbp; jnz loop
    "cc"  # end: int3
)
"""Does rbp calls that stand in a table at rbx, up to the first that fails."""
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")


class Registers(ctypes.Structure):
    """struct user_regs_struct."""

    _fields_ = [
        (name, ctypes.c_ulong)
        for name in (
            "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
            "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
        )
    ]  # fmt: skip


class Tracee:
    """A process that stands still in a system call, and only does the calls it is told to."""

    def __init__(self, pid: int, registers: Registers, scratch: int = 0) -> None:
        self.pid = pid
        self.scratch = scratch
        """The address of 16 KiB of its memory that nothing of its own uses."""
        self.identity = 0
        """Where its C library keeps the number of its thread; 0 where the kernel doesn't tell."""
        self.sequence: tuple[int, ...] = ()
        """The arguments by which its restartable sequences are known again."""
        self._registers = registers

    def run(self, calls: Sequence[tuple[str | int, ...]], memory: int, offset: int) -> None:
        """Several calls in one go: name and arguments each. memory: a descriptor of its memory, or -1 where `plan` wrote
        them already. offset: where in its scratch. Raises OSError with the first that fails.
        """
        if memory >= 0:
            self.plan(calls, memory, offset)
        registers = Registers.from_buffer_copy(self._registers)
        registers.rip, registers.rbx, registers.rbp = self.scratch, self.scratch + offset, len(calls)
        registers.orig_rax = _WORD - 1
        kernel.ptrace(_SET_REGISTERS, self.pid, 0, ctypes.addressof(registers))
        self._go(_CONTINUE)
        registers = _registers_of(self.pid)
        if registers.rip != self.scratch + len(_LOOP):
            raise OSError(22, "it ran something else")
        if registers.rbp:
            name = calls[len(calls) - registers.rbp][0]
            number = (_WORD - registers.rax) % _ERRORS
            raise OSError(number, f"{name}: {os.strerror(number)}")

    def plan(self, calls: Sequence[tuple[str | int, ...]], memory: int, offset: int) -> None:
        table = b""
        for name, *arguments in calls:
            numbers = [int(value) % _WORD for value in arguments]
            table += struct.pack("7Q", CALLS[str(name)], *numbers, *[0] * (6 - len(numbers)))
        os.pwrite(memory, table, self.scratch + offset)

    @classmethod
    def seize(cls, pid: int, call: tuple[int, int], seconds: float) -> Tracee:
        """Stops a process once it waits in a system call: its number and its first argument. Raises OSError where it doesn't."""
        if platform.machine() != "x86_64":
            raise OSError(38, f"snapshots need x86_64, this is {platform.machine()}")
        deadline = time.monotonic() + seconds
        kernel.ptrace(_SEIZE, pid, 0, _OPTIONS)
        while True:
            kernel.ptrace(_INTERRUPT, pid)
            _wait(pid)
            registers = _registers_of(pid)
            if (registers.orig_rax, registers.rdi) == call and _WORD - registers.rax in _RESTARTED:
                break
            if time.monotonic() > deadline:
                raise OSError(110, "it does not wait to be copied")
            kernel.ptrace(_CONTINUE, pid)
            time.sleep(0.001)
        return cls(pid, registers)

    def settle(self) -> None:
        """Makes its place for what calls point to. Not before every process that could write there is gone.

        Raises OSError for a process that doesn't wait in a system call, or whose other threads go on.
        """
        status = self.status()
        if status["Threads"] != "1":
            raise OSError(16, "a thread began at the fork and goes on")
        if status["Seccomp_filters"] != "1":  # it could make calls look done that aren't
            raise OSError(1, "it has a system call filter of its own")
        self._forget_sequence()
        memory = self.memory()
        at = self._registers.rip - len(_INSTRUCTION)
        if os.pread(memory, len(_INSTRUCTION), at) != _INSTRUCTION:
            raise OSError(22, "it does not wait in a system call")
        # private and anonymous; readable, writable and executable
        self.scratch = self.call("mmap", 0, _SCRATCH, 7, 0x22, -1, 0)
        os.pwrite(memory, _LOOP, self.scratch)
        with contextlib.suppress(OSError):  # a kernel without checkpoint and restore
            at = self.scratch + _SCRATCH - 8
            self.call("prctl", _GET_IDENTITY, at)
            [self.identity] = struct.unpack("Q", os.pread(memory, 8, at))
        os.close(memory)

    def call(self, name: str, *arguments: int) -> int:
        """Raises OSError with the call's error, and for a process that does anything else."""
        self._prepare(name, arguments)
        self._step()
        return self._result(name)

    def fork(self, *, inner: bool = False) -> Tracee:
        """A copy of it, standing still as well. Its parent is the parent of this one; inner: this one."""
        flags = signal.SIGCHLD | (0 if inner else kernel.CLONE_PARENT)
        if self.identity:
            flags |= _SET_IDENTITY
        self._prepare("clone", (flags, 0, 0, self.identity, 0))
        if self._step() not in _EVENTS:
            self._result("clone")
            raise OSError(22, "no copy was made")
        message = ctypes.c_ulong()
        kernel.ptrace(_EVENT_MESSAGE, self.pid, 0, ctypes.addressof(message))
        copy = Tracee(message.value, self._registers, self.scratch)
        copy.identity = self.identity
        _wait(copy.pid)
        try:
            self._step()
            self._result("clone")
        except OSError:
            copy.kill()
            raise
        return copy

    def release(self, result: int) -> None:
        """It goes on: the call it waited in returned `result`."""
        registers = Registers.from_buffer_copy(self._registers)
        registers.rax, registers.orig_rax = result % _WORD, _WORD - 1
        kernel.ptrace(_SET_REGISTERS, self.pid, 0, ctypes.addressof(registers))
        kernel.ptrace(_DETACH, self.pid)

    def kill(self) -> None:
        try:
            os.kill(self.pid, signal.SIGKILL)
            while True:
                _, status = os.waitpid(self.pid, _WAIT_ALL)
                if not os.WIFSTOPPED(status):
                    return
        except (ProcessLookupError, ChildProcessError):
            return

    def ended(self) -> bool:
        """Whether it was killed meanwhile; then nothing is left of it."""
        try:
            pid, status = os.waitpid(self.pid, _WAIT_ALL | os.WNOHANG)
        except ChildProcessError:
            return True
        return bool(pid) and not os.WIFSTOPPED(status)

    def status(self) -> dict[str, str]:
        """What the kernel says of it."""
        with open(f"/proc/{self.pid}/status", "rb") as file:
            lines = [line.partition(b":") for line in file.read().splitlines()]
        return {name.decode("latin-1"): value.strip().decode("latin-1") for name, _, value in lines}

    def _forget_sequence(self) -> None:
        """A restartable sequence (rseq) lets the kernel move it to code of its own at any moment: not while we hold it."""
        found = ctypes.create_string_buffer(_SEQUENCE.size)
        try:
            kernel.ptrace(_GET_SEQUENCE, self.pid, len(found), ctypes.addressof(found))
        except OSError:  # a kernel before 5.13 doesn't tell
            raise OSError(38, "restartable sequences can't be looked at: Linux 5.13 is needed") from None
        address, size, signature, _, _ = _SEQUENCE.unpack(found.raw)
        if address:
            self.call("rseq", address, size, 1, signature)
            self.sequence = (address, size, 0, signature)

    def memory(self) -> int:
        """A descriptor of its memory, where offsets are addresses. Not to be had while it can't be dumped."""
        return os.open(f"/proc/{self.pid}/mem", os.O_RDWR | os.O_CLOEXEC)

    def _prepare(self, name: str, arguments: tuple[int, ...]) -> None:
        registers = Registers.from_buffer_copy(self._registers)
        registers.rip = self._registers.rip - len(_INSTRUCTION)
        registers.rax, registers.orig_rax = CALLS[name], _WORD - 1
        for number, register in enumerate(_ARGUMENTS):  # some calls refuse arguments that they don't take unless 0
            setattr(registers, register, arguments[number] % _WORD if number < len(arguments) else 0)
        kernel.ptrace(_SET_REGISTERS, self.pid, 0, ctypes.addressof(registers))

    def _step(self) -> int:
        return self._go(_STEP)

    def _go(self, how: int) -> int:
        """Until it stops; the number of an event, 0 for none. Signals that wait for it are forgotten."""
        for _ in range(_MOST_SIGNALS):
            kernel.ptrace(how, self.pid)
            status = _wait(self.pid)
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                return status >> 16
        raise OSError(22, "too many signals wait for it")

    def _result(self, name: str) -> int:
        registers = _registers_of(self.pid)
        if registers.rip != self._registers.rip:
            raise OSError(22, f"{name}: it ran something else")
        value: int = registers.rax
        if value >= _WORD - _ERRORS:
            number = _WORD - value
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return value


def _wait(pid: int) -> int:
    _, status = os.waitpid(pid, _WAIT_ALL)
    if not os.WIFSTOPPED(status):
        raise OSError(3, "it ended")
    return status


def _registers_of(pid: int) -> Registers:
    registers = Registers()
    kernel.ptrace(_GET_REGISTERS, pid, 0, ctypes.addressof(registers))
    return registers


def filter_structure(program: bytes, address: int) -> bytes:
    """struct sock_fprog of a program that lies at an address."""
    return struct.pack("HxxxxxxQ", len(program) // 8, address)
