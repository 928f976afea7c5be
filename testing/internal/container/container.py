"""A container by hand: the root of an image, in namespaces of its own.

podman and docker need cgroups that not every machine has. What matters to a
program is the same here: pid, mount, user, network and UTS namespaces, process 1,
an ordinary user without capabilities, a read-only root.
"""

import ctypes
import os
import resource
import signal
import subprocess
import time

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18

PR_SET_NO_NEW_PRIVS = 38
PR_CAPBSET_DROP = 24
CAPABILITY_COUNT = 41

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *arguments):
    if getattr(_libc, name)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def _mount(source, target, kind, flags, data=None):
    encode = lambda text: None if text is None else text.encode()
    _call("mount", encode(source), encode(target), encode(kind),
          ctypes.c_ulong(flags), encode(data))


class Network:
    """A network namespace with a link to the host's."""

    _count = 0

    def __init__(self, has_ipv6=True):
        Network._count += 1
        number = Network._count
        self.name = f"udpgate-c{os.getpid()}-{number}"
        self.host_address = f"10.231.{number}.1"
        self.address = f"10.231.{number}.2"
        self._link = link = f"ugc{os.getpid() % 100000}x{number}"
        run = lambda *words: subprocess.run(words, check=True)
        run("ip", "netns", "add", self.name)
        try:
            run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0",
                "netns", self.name)
            run("ip", "addr", "add", f"{self.host_address}/24", "dev", link)
            run("ip", "link", "set", link, "up")
            inside = ("ip", "-n", self.name)
            run(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
            run(*inside, "link", "set", "eth0", "up")
            run(*inside, "link", "set", "lo", "up")
            run(*inside, "route", "add", "default", "via", self.host_address)
            if not has_ipv6:
                run("ip", "netns", "exec", self.name, "sysctl", "-qw",
                    "net.ipv6.conf.all.disable_ipv6=1")
        except BaseException:
            self.close()
            raise

    def close(self):
        subprocess.run(("ip", "link", "del", self._link), check=False)
        subprocess.run(("ip", "netns", "del", self.name), check=False)


class Container:
    """Starts a command as process 1.

    root: the folder of the image. environment, command: as an image has them.
    binds: folders of the host by the paths at which the container sees them.
    hosts: names and their addresses.
    """

    def __init__(self, root, command, network, *, environment=None, user=65532,
                 binds=None, hosts=None, log, descriptors=1024,
                 has_proc_sys=True, working_folder="/"):
        self._log_path = log
        self.status = None
        ready_read, ready_write = os.pipe()
        mapped_read, mapped_write = os.pipe()
        self._helper = os.fork()
        if self._helper == 0:
            try:
                os.close(ready_read)
                os.close(mapped_write)
                # Opened here, since the root is another one later.
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                                 0o644)
                os.dup2(output, 1)
                os.dup2(output, 2)
                self._enter(root, command, network, environment or {}, user,
                            binds or {}, hosts or {}, descriptors,
                            has_proc_sys, working_folder, ready_write,
                            mapped_read)
            except BaseException as error:  # the child must not return
                with open(log, "ab", buffering=0) as file:
                    file.write(f"container: {error!r}\n".encode())
            os._exit(126)
        os.close(ready_write)
        os.close(mapped_read)
        with os.fdopen(ready_read, "rb") as ready:
            if ready.read(1) != b"1":
                raise OSError(f"no namespaces: {self.log()}")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{self._helper}/{name}", "w") as file:
                file.write("0 0 65536")
        os.write(mapped_write, b"1")
        os.close(mapped_write)

    @staticmethod
    def _enter(root, command, network, environment, user, binds, hosts,
               descriptors, has_proc_sys, working_folder, ready, mapped):
        with open(f"/run/netns/{network.name}") as namespace:
            _call("setns", namespace.fileno(), CLONE_NEWNET)
        _call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS |
              CLONE_NEWIPC | CLONE_NEWPID)
        os.write(ready, b"1")
        os.read(mapped, 1)
        child = os.fork()  # process 1 of the new pid namespace
        if child != 0:
            # A stop of the helper is one of the container.
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2):
                signal.signal(number, lambda got, frame: os.kill(child, got))
            # SIGKILL reaches the helper alone.
            signal.signal(signal.SIGUSR1,
                          lambda got, frame: os.kill(child, signal.SIGKILL))
            while True:
                try:
                    _, status = os.waitpid(child, 0)
                    break
                except InterruptedError:
                    continue
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
        os.setgroups([])
        os.setgid(0)
        os.setuid(0)
        _mount(None, "/", None, MS_REC | MS_PRIVATE)
        _mount(root, root, None, MS_BIND | MS_REC)
        _mount("proc", root + "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        if not has_proc_sys:
            _mount("none", root + "/proc/sys", "tmpfs", MS_RDONLY, "size=4k")
        _mount("tmpfs", root + "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
        _mount("tmpfs", root + "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
        for target, source in binds.items():
            os.makedirs(root + target, exist_ok=True)
            _mount(source, root + target, None, MS_BIND)
        with open(root + "/run/hosts", "w") as file:
            for name, address in hosts.items():
                file.write(f"{address} {name}\n")
        # A container engine gives the image this file.
        with open(root + "/etc/hosts", "a"):
            pass
        _mount(root + "/run/hosts", root + "/etc/hosts", None, MS_BIND)
        _mount(root, root, None, MS_BIND | MS_REMOUNT | MS_RDONLY)
        os.chroot(root)
        os.chdir(working_folder)
        hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], descriptors)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for capability in range(CAPABILITY_COUNT):
            _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
        os.setgid(user)
        os.setuid(user)
        _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        os.execvpe(command[0], command, environment)

    def log(self):
        with open(self._log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def is_running(self):
        return self.status is None and not self._reap(os.WNOHANG)

    def _reap(self, options):
        pid, status = os.waitpid(self._helper, options)
        if pid == 0:
            return False
        self.status = os.waitstatus_to_exitcode(status)
        return True

    def signal(self, number):
        os.kill(self._helper, number)

    def wait(self, seconds):
        """The exit status."""
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > deadline:
                raise TimeoutError(f"it still runs: {self.log()}")
            time.sleep(0.01)
        return self.status

    def close(self):
        if self.is_running():
            os.kill(self._helper, signal.SIGUSR1)
            self._reap(0)
