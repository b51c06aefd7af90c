"""What host and runner agree on: names, limits, frames, job documents, the sample file and the metrics.

The only part of the runner that the SDK imports. Standard library only (`samples` and `metrics` need NumPy, and
import it late); Python >= 3.6.

Invocations (the bundle is `<root>/runner/<sha256>/edgeopt_runner.pyz`; PY is the device's interpreter):

* ``PY -I BUNDLE serve --root ROOT``: answers framed requests on stdin/stdout until stdin closes.
* ``PY -I BUNDLE receive --root ROOT --sha256 H --size N``: takes one object. First a frame ``{"have": bool, "offset":
  n}``; then, unless it is there already, the raw bytes from `offset` on arrive on stdin; last a frame ``{"ok":
  true}`` or an error.
* ``PY -I BUNDLE send --root ROOT --sha256 H``: a frame ``{"size": n}`` (or an error), then the raw bytes.
* ``PY -I BUNDLE stage --root ROOT --sha256 H --order JSON``: lends a model until stdin closes. The order has ``owner,
  settings, limits`` as of a job, among the deadlines ``idle``: seconds to wait for a request. First a frame ``{"ready":
  true, "inputs": [..], "outputs": [..], "pid": n}`` or an error; then to each message (see `tensors`) whose frame has a
  ``number`` one with that number, ``busy_ns`` (of inference itself) and the outputs, or an error. Stages of one owner
  share the board; anything that is no request ends the stage with an error.

* ``PY -I BUNDLE door --root ROOT``: forced command of a key; does one of these, as ``$SSH_ORIGINAL_COMMAND`` says.

* ``PY -I BUNDLE pull --root ROOT [--once | --every SECONDS]``: the board's own agent (see the package `agent`): looks
  at its store once, or for ever; a line of JSON for each app, exit code 0 where all is as it should be, 4 where an
  update failed or the store could not be used, 2 where the board is not enrolled.
* ``PY -I BUNDLE mender --root ROOT STATE [FILES]``: a state of Mender's update module protocol v3.

A request is ``{"id": n, "verb": v, "params": {...}}``; the answer ``{"id": n, "ok": true, "result": {...}}`` or
``{"id": n, "ok": false, "error": {"code": c, "message": m, "remedy": r}}``. Every verb is idempotent. Verbs:

=================== ======================================= ==========================================================
verb                params                                  result
=================== ======================================= ==========================================================
``hello``           ``protocols: [1]``                      ``protocol, runner, python, machine, pid, boot_id, verbs,
                                                            utc_offset_seconds, codecs: [zlib, bz2, lzma]`` (what
                                                            patches may use), ``hardware`` (marks, see the module of
                                                            that name) and ``restricted``: whether it answers through
                                                            the door
``probe``           ``runtimes: bool``                      the fields of ``edgeopt.core.device.DeviceFacts``
``have``            ``digests: [..]``                       ``have: [..], partial: {digest: bytes}``
``receive``         ``sha256, size``                        ``have, offset``; then the raw bytes from `offset` on
                                                            arrive, unless it is there already, and a second answer
                                                            with the same ``id`` says how that ended. What breaks off
                                                            ends the conversation
``lease``           ``owner, host, reason, seconds``        ``held: bool, lease: {owner, host, reason, since, expires}``
``unlease``         ``owner, host``                         ``released: bool``; False when it was not theirs
``submit``          ``job: {...}``                          as ``status``; a known ``job_id`` is not started again
``status``          ``job_id``                              ``state, phase, phase_seconds, heartbeat_seconds,
                                                            waiting_for``
``result``          ``job_id``                              the result document
``logs``            ``job_id, bytes``                       ``text``
``cancel``          ``job_id``                              ``state``
``apps``            nothing                                 ``apps: [{app, current, previous, sha256, settings,
                                                            created, healthy}]``
``agent``           ``settings: {...}, certificates:        ``configured, device_id, url, public_key, enrolled,
                    text`` or ``remove: true`` or nothing   python, bundle``; of the board's own pull agent
``releases``        ``verify: bool``                        ``apps: [fields of core BoardRelease]``; with `verify` the
                                                            active files are hashed, and left for sound ones
``preflight``       ``app, manifest, target, profile,       ``action`` (``update, nothing, skip, refuse``), ``code,
                    fence, insecure_unsigned``              reason, needs: [{sha256, size, have}], have: [{sha256,
                                                            size, version}], free_bytes, need_bytes, collect_bytes,
                                                            before``; changes nothing
``gc``              ``keep: [digests], tight: bool``        ``removed: n, freed_bytes: n``; a tight one takes releases
                                                            that no pointer leads to as well
``clean``           ``force: bool``                         ``removed: bool``; takes all of ours away, and the root
                                                            too unless something else is in it
``trust``           nothing                                 ``enrolled, insecure: bool``, versions ``root, timestamp,
                                                            snapshot, targets`` (0: none), ``nonce`` (fresh, for one
                                                            use), ``last_trusted_time``, ``clock_off_seconds``
``enrol``           ``root: {...}, replace: bool``          as ``trust``; pins a root where none is pinned
``trust_update``    ``roots: [..], timestamp, snapshot,     as ``trust``; verifies all of it against the pinned root
                    targets: {...}, delegated: {name: ..},  and keeps it; what is left out is taken from what is there
                    freshness: {...}``
``restrict``        ``public_key``                          ``path, fingerprint, others: n``; lets a key in that may
                                                            only talk to the runner (see `edgeopt_runner.door`)
=================== ======================================= ==========================================================

States of a job: ``queued`` (waits for the board's lock), ``running``, ``done``, ``lost`` (its supervisor is gone),
``rebooted``, ``unknown`` (never heard of).

A job document has ``job_id``, ``nonce`` (both 32 hex digits), ``kind``, ``owner: {owner, host, reason}``, ``limits:
{memory_bytes|null, deadline_seconds: {phase: s}}`` (beside the worker's phases there are ``queue`` and ``total``) and,
by kind, what follows. `settings.threads` is a whole number from 1 to four times the CPUs that the runner may use, and
so is `sessions` times it or `inter_op`; a job with another, or with a setting that the runner does not know, is refused
(``bad_request``), and so is one whose objects are not there (``missing_object``). Settings that are left out are 1,
``all`` and true.

* ``measure``: ``artifact {sha256,size,format}``, ``settings`` (core ``Settings``), ``plan`` (core ``Plan``),
  ``golden`` (digest of a sample file), ``min_cosine``, ``evaluation`` (digest of a sample file or null), ``metric``
  (``top1``, ``fidelity`` or ``outputs``), ``max_start_celsius``, optionally ``by_input``: the time depends on the
  input, so the evaluation samples are timed, and the latency has ``average_ns`` and ``worst_ns`` over them.
* ``layers``: many small networks, one after the other in one worker, each as a ``measure`` would without evaluation:
  ``layers [{sha256,size,format,golden}]`` (1 to 256), ``settings``, ``plan`` (one that does not evaluate),
  ``min_cosine``, ``max_start_celsius``. One that fails says so in its own row and the others go on.
* ``pipeline``: ``artifact`` (the whole model), ``stages [{sha256,size,format,gives}]`` (`gives`: names handed on after
  each), ``slot_bytes`` (of a message on each edge, one more than stages), ``settings``, ``golden``, ``inputs``,
  ``min_cosine``, ``seconds`` and ``rounds`` of each of one session, as many sessions as stages, and the pipeline,
  ``max_start_celsius``.
* ``activate``: ``app``, ``artifact``, ``settings``, ``golden``, ``min_cosine``, ``max_latency_ns`` (or null), ``runs``.
* ``rollback``: ``app``. It and all that change releases have workers run documents of kind ``check``: ``release {app,
  number}`` (its folder is where the files are), ``artifact``, ``settings``, ``golden``, ``min_cosine``,
  ``max_latency_ns``, ``runs``; the result has ``check: {passed, cosine, median_ns, reason, samples_ns, memory_bytes,
  disturbed}``.
* ``update``: ``app``, ``manifest`` (digest of the release's manifest, an object), ``target`` (its path among the signed
  targets), ``profile``, ``fence``, ``rollout``, ``insecure_unsigned``, ``golden`` (make it what is gone back to last),
  ``commit: "local"``. The phases are its steps: ``preflight, verify, stage, smoke, activate, health, commit, collect``.
* ``recheck``: ``app``, ``fence``; measures the active release again. ``return``: ``app``, ``fence``, ``to_manifest``
  (empty: the previous release).
* ``provision``: ``key``, ``wheels: [{name, sha256}]``, ``system_site_packages: bool``.
* ``rebuild``: ``base`` (digest of a file that the board has, as object or in a release, or null), ``patch`` (an object,
  see `patch_format`; used up), ``result`` (digest), ``size``: makes the object ``result``. The result has ``rebuild:
  {sha256, size}``; after ``bad_patch``, ``digest_mismatch`` or ``missing_object`` the whole file has to be sent.
* ``rehearse``: nothing; goes the whole way without a model, to show that jobs work on this board.

A result document has ``job_id``, ``nonce``, ``kind``, ``status``, ``detail`` and, by kind, ``measurement`` (core
``Measurement``), ``update`` (``outcome``: ``committed, nothing, skipped, aborted, rolled_back, inconclusive,
safe_stop``; ``code, reason, step, before, after`` (core ``HealthFigures`` or null), ``version, release, transitions``),
``recheck`` (``figures, verdict, reason, version, manifest``), ``deployment`` (``app, release, previous, sha256,
settings, healthy, detail``), ``environment``
(``key, interpreter, runtimes: [{name, version}]``), ``pipeline`` (core ``PipelineFigures``), ``layers`` (core
``Measurement`` of each network, in the order of the job; only where ``status`` is ``ok``); a ``measure`` with metric
``outputs`` adds ``outputs: {sha256, size}``, to be had with ``send``.
"""

PROTOCOL = 1
RUNNER_VERSION = "0.1.0"

FRAME_LIMIT_BYTES = 32 << 20
LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 1.0

# error codes of requests, and statuses of jobs
OK = "ok"
BAD_REQUEST = "bad_request"
UNKNOWN_VERB = "unknown_verb"
UNKNOWN_JOB = "unknown_job"
NOT_DONE = "not_done"
MISSING_OBJECT = "missing_object"
DIGEST_MISMATCH = "digest_mismatch"
TRUNCATED = "truncated"
DISK_FULL = "disk_full"
READ_ONLY = "read_only"
BUSY = "busy"
BAD_PATCH = "bad_patch"
UNKNOWN_APP = "unknown_app"
NO_PREVIOUS = "no_previous"
RUNTIME_MISSING = "runtime_missing"
LOAD_FAILED = "load_failed"
ILLEGAL_INSTRUCTION = "illegal_instruction"
OOM = "oom"
MEMORY_GUARD = "memory_guard"
PROCESS_GUARD = "process_guard"
CRASH = "crash"
TIMEOUT = "timeout"  # always followed by ":" and the phase
REBOOTED = "rebooted"
LOST = "lost"
CANCELLED = "cancelled"
HEALTH_FAILED = "health_failed"
# of releases of a fleet
BAD_MANIFEST = "bad_manifest"
NOT_ENROLLED = "not_enrolled"
UNSIGNED = "unsigned"
ALREADY_ENROLLED = "already_enrolled"
BAD_METADATA = "bad_metadata"
BAD_SIGNATURE = "bad_signature"
ROLLBACK_ATTACK = "rollback_attack"
STALE = "stale"
EXPIRED = "expired"
OLDER = "older"  # a counter below one that was committed
REVOKED = "revoked"
NO_ENTRY = "no_entry"
WRONG_MACHINE = "wrong_machine"
RUNTIME_OLD = "runtime_old"
FENCED = "fenced"
PENALISED = "penalised"
NO_INODES = "no_inodes"
INCONCLUSIVE = "inconclusive"
SAFE_STOP = "safe_stop"
RESTRICTED = "restricted"  # through a key that may only talk to the runner
ERROR = "error"
