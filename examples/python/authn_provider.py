# SPDX-FileCopyrightText: The pam-authn authors
# SPDX-License-Identifier: Apache-2.0

"""Serves a provider for pam_authn, as docs/protocol.md tells it.

A provider is a class:

    class Provider:
        version = "1.0"           # optional: for people
        secret_keys = ("hash",)   # optional: keys whose file must be private
        step = 0.0                # optional: uniform time, in seconds

        def __init__(self, config, log): ...        # validates; no network
        def authenticate(self, request, conv): ...  # returns an Identity

        # Optional, each a capability that is announced if it is there:
        def check_account(self, request, conv): ...
        def set_credentials(self, request, op): ...
        def open_session(self, request, conv): ...
        def close_session(self, request): ...
        def can_change_password(self, request): ...
        def change_password(self, request, conv): ...

    serve(Provider)

To refuse, a method raises Refusal. Any other exception is a fault: PAM hears
system_err, and the log names the exception's type and line but not its text,
which might hold what the user typed.
"""

import ctypes

# Before anything else: no other process of this user may open our memory. A
# script is readable, so the kernel does not see to it (PR_SET_DUMPABLE).
if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) != 0:
    raise SystemExit("prctl(PR_SET_DUMPABLE) failed")

import concurrent.futures
import enum
import json
import os
import queue
import socket
import struct
import sys
import threading
import time

import grpc

import authn_pb2 as pb

PROTOCOL = 1
COOKIE = ("AUTHN_PROVIDER_COOKIE", "pam-authn provider")
MAX_MESSAGE = 256 << 10
MAX_PROMPT = 8 << 10
MAX_REASON = 1 << 10


class Result(enum.IntEnum):
    """What PAM hears; the names are pam.conf's words. docs/protocol.md says
    which call can have which."""

    SUCCESS = 0
    SERVICE_ERR = 3
    SYSTEM_ERR = 4
    PERM_DENIED = 6
    AUTH_ERR = 7
    CRED_INSUFFICIENT = 8
    AUTHINFO_UNAVAIL = 9
    USER_UNKNOWN = 10
    MAXTRIES = 11
    NEW_AUTHTOK_REQD = 12
    ACCT_EXPIRED = 13
    SESSION_ERR = 14
    CRED_UNAVAIL = 15
    CRED_EXPIRED = 16
    CRED_ERR = 17
    CONV_ERR = 19
    AUTHTOK_ERR = 20
    AUTHTOK_RECOVER_ERR = 21
    AUTHTOK_LOCK_BUSY = 22
    AUTHTOK_DISABLE_AGING = 23
    TRY_AGAIN = 24
    IGNORE = 25
    ABORT = 26


class Refusal(Exception):
    """Ends the call with a Result. The reason is for the log and is never
    shown to the user."""

    def __init__(self, result, reason):
        super().__init__(reason)
        self.result = Result(result)
        self.reason = reason


class Identity:
    """The person who was proven to be at the prompt. Names in env start with
    AUTHN_; ticket is given back to later calls of this login."""

    def __init__(self, subject, env=None, ticket=b""):
        self.subject, self.env, self.ticket = subject, env or {}, ticket


class Secret:
    """What a user typed: bytes that hide themselves."""

    def __init__(self, value):
        self._value = value

    def reveal(self):
        return self._value

    def __repr__(self):
        return "<hidden>"


class Config:
    """The administrator's keys. Take every one that the provider knows, then
    call done: it reports all problems at once, unknown keys too."""

    def __init__(self, wire):
        self._file = wire.file or "configuration"
        self._lines = wire.lines
        self._values = json.loads(wire.json or "{}")
        self._known = []
        self._problems = []

    def take(self, key, kind, default):
        """Returns the value of key, whose type is kind, or default."""
        self._known.append(key)
        value = self._values.pop(key, default)
        if kind is float and type(value) is int:
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
            self.problem(key, f"wants {_KINDS.get(kind, kind.__name__)}")
            return default
        return value

    def problem(self, key, text):
        """Notes what is wrong with key. Never put the value into text: it
        might be a secret in the wrong place."""
        pointer = "/" + key.replace("~", "~0").replace("/", "~1")
        line = self._lines.get(pointer, 0)  # a plain [] would add the key
        where = f"{self._file}:{line}" if line else self._file
        self._problems.append(f"{where}: {key}: {text}")

    def done(self):
        known = ", ".join(sorted(self._known))
        for key in self._values:
            self.problem(key, f"unknown key; remove it or correct it to one of: {known}")
        if self._problems:
            raise Refusal(Result.SYSTEM_ERR, "\n".join(self._problems))


_KINDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false",
          list: "a list", dict: "keys and values"}


class Request:
    """What the application told PAM. Treat every field as typed by a
    stranger; args come from the administrator. Bytes that are not UTF-8 are
    kept as Python does it in file names (surrogateescape)."""

    def __init__(self, wire, conv):
        self.service, self.user, self.rhost, self.tty, self.ruser = map(
            _text, (wire.service, wire.user, wire.rhost, wire.tty, wire.ruser))
        self.args = [_text(a) for a in wire.args]
        self.subject = wire.subject
        self.claimed_subject = wire.claimed_subject
        self.ticket = wire.ticket
        self.files = dict(wire.files)
        self.silent, self.expired = wire.silent, wire.expired
        self.timeout = wire.timeout_ms / 1000
        self._conv = conv

    def allow(self, key, n, window):
        """Counts one use of key: is it among the first n of the last window
        seconds, over all calls on this machine? Where that cannot be counted,
        the call ends: then nothing may be sent."""
        reply = self._conv.ask("allow_reply", lambda i: pb.FromProvider(
            allow=pb.Allow(id=i, key=key, n=n, window_ms=_ms(window))))
        if reply.error:
            raise Refusal(Result.SYSTEM_ERR, "Allow: " + reply.error)
        return reply.allowed


class Conversation:
    """Talks to the user for the length of one call. What it raises already
    carries the right Result: let it pass."""

    def __init__(self, messages):
        self._messages = messages
        self._lock = threading.Lock()
        self._next = 0
        self.outbox = queue.SimpleQueue()

    def prompt(self, text):
        """Asks; what is typed is shown."""
        return _text(self._exchange(pb.STYLE_PROMPT, text))

    def prompt_secret(self, text):
        """Asks; what is typed is hidden. Returns a Secret."""
        return Secret(self._exchange(pb.STYLE_PROMPT_SECRET, text))

    def info(self, text):
        """Shows text. It may only appear together with the next prompt."""
        self._exchange(pb.STYLE_INFO, text)

    def error(self, text):
        """Shows what went wrong, in the user's words."""
        self._exchange(pb.STYLE_ERROR, text)

    def waiting(self, limit):
        """Declares that a person decides elsewhere, for at most limit seconds
        since the user's last answer."""
        self.outbox.put(pb.FromProvider(waiting=pb.Waiting(limit_ms=_ms(limit))))

    def ask(self, kind, build):
        """Sends what build makes for a fresh id, and returns the answer of
        that kind. One question at a time is open, so it is the next message."""
        with self._lock:
            self._next += 1
            self.outbox.put(build(self._next))
            try:
                message = next(self._messages)
            except (StopIteration, grpc.RpcError):
                raise Refusal(Result.CONV_ERR, "the worker has ended the call") from None
            answer = getattr(message, kind)
            if message.WhichOneof("message") != kind or answer.id != self._next:
                raise Refusal(Result.SYSTEM_ERR, "the worker answered another question")
            return answer

    def _exchange(self, style, text):
        if len(text.encode()) > MAX_PROMPT or "\0" in text:
            raise Refusal(Result.SYSTEM_ERR, f"a text for the user that has NUL or more than {MAX_PROMPT} bytes")
        answer = self.ask("answer", lambda i: pb.FromProvider(
            prompt=pb.Prompt(id=i, style=style, text=text)))
        if answer.failure == Result.AUTH_ERR:
            raise Refusal(Result.AUTH_ERR, "use_first_pass forbids another question")
        if answer.failure:
            raise Refusal(Result.CONV_ERR, "the user could not be asked or gave up")
        return answer.text


class Log:
    """The administrator's log. Secrets do not belong into it."""

    def __init__(self, outbox):
        self._outbox = outbox

    def debug(self, text):
        self._line(pb.LEVEL_DEBUG, text)

    def info(self, text):
        self._line(pb.LEVEL_INFO, text)

    def warning(self, text):
        self._line(pb.LEVEL_WARN, text)

    def error(self, text):
        self._line(pb.LEVEL_ERROR, text)

    def _line(self, level, text):
        self._outbox.put(pb.FromProvider(log=pb.Log(level=level, text=_clip(text))))


def serve(provider):
    """Serves the class provider to the worker that started this process, and
    ends with it."""
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit(_by_hand(getattr(provider, "version", "")))
    worker = os.getppid()
    os.umask(0o077)
    path = os.path.join(os.environ["PLUGIN_UNIX_SOCKET_DIR"], "provider.sock")
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(max_workers=4),
        handlers=_Service(provider, worker, path).handlers(),
        options=[("grpc.max_receive_message_length", MAX_MESSAGE),
                 ("grpc.max_send_message_length", MAX_MESSAGE)])
    if not server.add_insecure_port("unix:" + path):
        sys.exit("cannot listen on " + path)
    server.start()
    _handshake(path)
    while os.getppid() == worker:
        time.sleep(1)
    os._exit(0)


def _handshake(path):
    """Says where we listen. Nothing else may ever go to stdout."""
    os.write(1, f"1|{PROTOCOL}|unix|{path}|grpc|\n".encode())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


class _Service:
    """authn.v1.Provider, with the health service that go-plugin asks for."""

    def __init__(self, provider, worker, path):
        self._provider, self._worker, self._path = provider, worker, path

    def handlers(self):
        return (
            grpc.method_handlers_generic_handler("authn.v1.Provider", {
                "Describe": grpc.unary_unary_rpc_method_handler(
                    self._describe, pb.DescribeRequest.FromString, pb.DescribeReply.SerializeToString),
                "Call": grpc.stream_stream_rpc_method_handler(
                    self._call, pb.FromWorker.FromString, pb.FromProvider.SerializeToString),
            }),
            grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
                # HealthCheckResponse{status: SERVING}, without its module.
                "Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01"),
            }),
        )

    def _describe(self, _request, context):
        self._worker_only(context)
        return pb.DescribeReply(
            version=getattr(self._provider, "version", ""),
            capabilities=[c for c, methods in _CAPABILITIES.items()
                          if all(hasattr(self._provider, m) for m in methods)],
            secret_keys=getattr(self._provider, "secret_keys", ()))

    def _call(self, messages, context):
        """Sends what the provider's thread puts into the outbox."""
        self._worker_only(context)
        conv = Conversation(messages)
        threading.Thread(target=self._run, args=(messages, conv), daemon=True).start()
        while (message := conv.outbox.get()) is not None:
            yield message

    def _run(self, messages, conv):
        try:
            identity = self._dispatch(next(messages).start, conv)
            result = pb.Result(code=0, subject=identity.subject, env=identity.env, ticket=identity.ticket)
        except Refusal as e:
            result = pb.Result(code=e.result, reason=_clip(e.reason))
        except BaseException as e:
            result = pb.Result(code=Result.SYSTEM_ERR, reason=_place(e))
        conv.outbox.put(pb.FromProvider(result=result))
        conv.outbox.put(None)

    def _dispatch(self, start, conv):
        try:
            provider = self._provider(Config(start.config), Log(conv.outbox))
        except Refusal as e:  # which result a configuration has is not the provider's choice
            raise Refusal(Result.SYSTEM_ERR, e.reason) from None
        step = getattr(provider, "step", 0)
        conv.outbox.put(pb.FromProvider(started=pb.Started(step_ms=_ms(step))))
        request = Request(start.request, conv)
        nobody = Identity("")
        if start.call == pb.CALL_CHECK:
            return nobody
        if start.call == pb.CALL_AUTHENTICATE:
            identity = provider.authenticate(request, conv)
            if not isinstance(identity, Identity) or not identity.subject:
                raise Refusal(Result.SYSTEM_ERR, "success without saying who")
            return identity
        name, *args = _method(start, request, conv)
        if not hasattr(provider, name):
            raise Refusal(Result.SYSTEM_ERR, f"no {name} here, and none was announced")
        getattr(provider, name)(*args)
        return nobody

    def _worker_only(self, context):
        """Refuses unless every connection to our socket is the worker's.
        gRPC's Python library does not say who is at the other end (its
        context.peer() is "unix:"), so the kernel is asked about each socket
        of this process."""
        peers = {_peer_pid(fd, self._path) for fd in range(3, os.sysconf("SC_OPEN_MAX"))} - {None}
        if peers != {self._worker}:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not this provider's worker")


def _peer_pid(fd, path):
    """Who connected to path over fd; None if fd is anything else."""
    try:
        s = socket.socket(fileno=fd)
    except OSError:
        return None
    try:
        if (s.family != socket.AF_UNIX or s.getsockname() != path
                or s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)):
            return None
        cred = s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return struct.unpack("3i", cred)[0]
    except OSError:
        return -1
    finally:
        s.detach()


_CAPABILITIES = {
    pb.CAPABILITY_ACCOUNT: ("check_account",),
    pb.CAPABILITY_SETCRED: ("set_credentials",),
    pb.CAPABILITY_SESSION: ("open_session", "close_session"),
    pb.CAPABILITY_PASSWORD: ("can_change_password", "change_password"),
}


def _method(start, request, conv):
    """The method that a call means, and its arguments."""
    if start.call == pb.CALL_ACCOUNT:
        return "check_account", request, conv
    if start.call == pb.CALL_SETCRED:
        return "set_credentials", request, start.credential_op
    if start.call == pb.CALL_OPEN_SESSION:
        return "open_session", request, conv
    if start.call == pb.CALL_CLOSE_SESSION:
        return "close_session", request
    if start.call == pb.CALL_PASSWORD and start.preliminary:
        return "can_change_password", request
    if start.call == pb.CALL_PASSWORD:
        return "change_password", request, conv
    raise Refusal(Result.SYSTEM_ERR, f"call {start.call} is unknown to this provider")


def _text(value):
    return value.decode("utf-8", "surrogateescape")


def _clip(text):
    """Cuts text to what the worker keeps, and makes it fit a proto string."""
    return text.encode("utf-8", "replace")[:MAX_REASON].decode("utf-8", "ignore")


def _ms(seconds):
    return max(0, round(seconds * 1000))


def _place(error):
    """Where error happened, but not what it says."""
    tb = error.__traceback__
    while tb.tb_next is not None:
        tb = tb.tb_next
    name = os.path.basename(tb.tb_frame.f_code.co_filename)
    return f"{type(error).__name__} at {name}:{tb.tb_lineno}"


_USAGE = """\
{program} is a provider for pam_authn: it decides who may log in, and PAM starts it.

To use it, name it in a file of /etc/pam.d:

    auth  required  pam_authn.so  provider={path}

and write its configuration to /etc/authn/{name}.yaml. Then

    authnctl check /etc/authn/{name}.yaml
    authnctl try --provider {path} --user NAME

check the configuration and try a login in this terminal.
"""


def _by_hand(version):
    """Explains the program to a person who started it."""
    path = os.path.abspath(sys.argv[0])
    program = os.path.basename(path)
    if sys.argv[1:] == ["--version"]:
        print(program, version)
        return 0
    sys.stderr.write(_USAGE.format(program=program, path=path, name=program.removeprefix("authn-")))
    return 2
