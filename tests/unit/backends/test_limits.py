"""Limits of a process in fake trees of system files: control groups of both versions, containers, `ulimit`."""

from __future__ import annotations

from pathlib import Path

import pytest

from autosparse.backends.limits import (
    Limit,
    available_memory,
    default_threads,
    free_processes,
    memory_without_others,
    most_processes,
    usable_cores,
    usable_memory,
)

MEMORY = "MemTotal: 8388608 kB\nMemAvailable: 6291456 kB\n"
V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "".join(
    f"4{number} 31 0:3{number} {{top}} /sys/fs/cgroup/{names} ro,nosuid shared:{number} - cgroup cgroup rw,{names}\n"
    for number, names in enumerate(["cpu,cpuacct", "memory", "pids"])
)
GiB, MiB = 2**30, 2**20


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write system files below a folder, with a machine of 8 GiB, and return the folder."""
    for name, text in {"proc/meminfo": MEMORY, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def version_2(root: Path, path: str, files: dict[str, str]) -> Path:
    """Return a tree with a unified hierarchy; `files` are relative to its mount."""
    about = {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2}
    return tree(root, about | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def version_1(root: Path, path: str, top: str, files: dict[str, str]) -> Path:
    """Return a tree with one hierarchy a controller, whose mounts show the group `top`."""
    lines = "".join(f"{n}:{names}:{path}\n" for n, names in enumerate(["pids", "memory", "cpu,cpuacct"], start=2))
    about = {"proc/self/cgroup": f"{lines}1:name=systemd:{path}\n", "proc/self/mountinfo": V1.format(top=top)}
    return tree(root, about | {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("max 100000", 8), ("50000 100000", 1), ("150000 100000", 1), ("200000 100000", 2), ("100000 50000", 2),
        ("399999 100000", 3), ("100000000 100000", 8), ("300000", 3), ("", 8), ("a b", 8), ("-1 100000", 8),
        ("200000 0", 8), ("200000 max", 2), ("9" * 40 + " 100000", 8), ("1.5 100000", 8),
    ],
)  # fmt: skip
def test_a_quota_counts_as_whole_cores(tmp_path: Path, quota: str, cores: int) -> None:
    """The quota of `cpu.max` is divided by its period, down to whole cores and at least one; odd text is no limit."""
    root = version_2(tmp_path, "/a", {"a/cpu.max": quota})

    assert cores == usable_cores(root, affinity=8, machine=8).value


def test_the_least_limit_counts_and_has_its_source(tmp_path: Path) -> None:
    """Machine, affinity and quota: the smallest counts; of equal ones the machine is named before the group."""
    root = version_2(tmp_path, "/a", {"a/cpu.max": "400000 100000"})

    assert Limit(4, "cgroup v2 cpu.max of /a") == usable_cores(root, affinity=6, machine=16)
    assert Limit(3, "affinity") == usable_cores(root, affinity=3, machine=16)
    assert Limit(4, "the machine") == usable_cores(root, affinity=4, machine=4)


def test_every_slice_above_counts(tmp_path: Path) -> None:
    """A limit of a parent holds for its children, whatever they are granted."""
    files = {
        "user.slice/memory.max": "2147483648",
        "user.slice/user-1000.slice/memory.max": "max",
        "user.slice/user-1000.slice/app.scope/memory.max": "4294967296",
        "user.slice/cpu.max": "max 100000",
        "user.slice/user-1000.slice/cpu.max": "250000 100000",
        "user.slice/pids.max": "100",
        "user.slice/pids.current": "40",
        "user.slice/user-1000.slice/app.scope/pids.max": "90",
        "user.slice/user-1000.slice/app.scope/pids.current": "35",
    }
    root = version_2(tmp_path, "/user.slice/user-1000.slice/app.scope", files)

    assert Limit(2 * GiB, "cgroup v2 memory.max of /user.slice") == usable_memory(root)
    expected = Limit(2, "cgroup v2 cpu.max of /user.slice/user-1000.slice")
    assert expected == usable_cores(root, affinity=8, machine=8)
    assert Limit(90, "cgroup v2 pids.max of /user.slice/user-1000.slice/app.scope") == most_processes(root)
    assert 55 == free_processes(root)


def test_memory_high_is_a_limit(tmp_path: Path) -> None:
    """Above `memory.high` a process without swap hardly moves, so that it limits like `memory.max`."""
    root = version_2(tmp_path, "/a", {"a/memory.max": "4294967296", "a/memory.high": "3221225472"})

    assert Limit(3 * GiB, "cgroup v2 memory.high of /a") == usable_memory(root)


@pytest.mark.parametrize(
    ("path", "top", "folder"),
    [
        ("/docker/3f", "/docker/3f", ""),  # a container that sees its group alone
        ("/docker/3f", "/", "docker/3f/"),  # the host, or a container that mounts the host's groups
        ("/", "/", ""),  # a container with a namespace of groups
        ("/../../system.slice/x", "/", ""),  # a process outside of its namespace
        ("/kubepods/burstable/pod1/c2", "/kubepods/burstable/pod1/c2", ""),
        ("/lxc.payload.c/ns", "/", ""),  # a group that this container does not see
        ("/lxc/c/inner", "/lxc/c", "inner/"),
    ],
)
def test_version_1_finds_the_group_below_its_mount(tmp_path: Path, path: str, top: str, folder: str) -> None:
    """The group's path is joined to the mount by the group that the mount shows; a hidden path is the mount's root."""
    files = {
        f"cpu,cpuacct/{folder}cpu.cfs_quota_us": "150000",
        f"cpu,cpuacct/{folder}cpu.cfs_period_us": "50000",
        f"memory/{folder}memory.limit_in_bytes": "1073741824",
        f"pids/{folder}pids.max": "64",
        f"pids/{folder}pids.current": "60",
    }
    root = version_1(tmp_path, path, top, files)

    assert 3 == usable_cores(root, affinity=8, machine=8).value
    assert GiB == usable_memory(root).value
    assert usable_memory(root).source.startswith("cgroup v1 memory.limit_in_bytes of /")
    assert 4 == free_processes(root)


def test_version_1_without_limits(tmp_path: Path) -> None:
    """A quota of -1 and a number near 2**63 are no limits."""
    files = {
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/memory.stat": "hierarchical_memory_limit 9223372036854771712\n",
        "pids/pids.max": "max",
    }
    root = version_1(tmp_path, "/", "/", files)

    assert Limit(8, "the machine") == usable_cores(root, affinity=8, machine=8)
    assert Limit(8 * GiB, "the machine") == usable_memory(root)
    assert most_processes(root) is None
    assert free_processes(root) is None


def test_version_1_reports_limits_that_a_container_does_not_see(tmp_path: Path) -> None:
    """`hierarchical_memory_limit` holds the least limit of all groups above, also those outside of the mount."""
    files = {
        "memory/memory.limit_in_bytes": "9223372036854771712",
        "memory/memory.stat": "cache 0\nhierarchical_memory_limit 536870912\n",
        "memory/memory.usage_in_bytes": str(100 * MiB),
    }
    root = version_1(tmp_path, "/pod/c", "/pod/c", files)

    assert Limit(512 * MiB, "cgroup v1 memory.limit_in_bytes of /pod/c or above") == usable_memory(root)
    assert 412 * MiB == available_memory(root) == memory_without_others(root)


def test_version_1_names_the_group_with_the_limit(tmp_path: Path) -> None:
    """A limit of a visible parent is the parent's, although its child reports it too."""
    files = {
        "memory/a/memory.limit_in_bytes": "1073741824",
        "memory/a/b/memory.limit_in_bytes": "9223372036854771712",
        "memory/a/b/memory.stat": "hierarchical_memory_limit 1073741824\n",
    }
    root = version_1(tmp_path, "/a/b", "/", files)

    assert Limit(GiB, "cgroup v1 memory.limit_in_bytes of /a") == usable_memory(root)


def test_hybrid_hierarchies_both_count(tmp_path: Path) -> None:
    """Version 1 limits the memory, version 2 the processor: each is read where it is."""
    mounts = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") + V1.format(top="/")
    files = {
        "proc/self/cgroup": "5:memory:/m\n0::/u\n",
        "proc/self/mountinfo": mounts,
        "sys/fs/cgroup/memory/m/memory.limit_in_bytes": "1073741824",
        "sys/fs/cgroup/unified/u/cpu.max": "200000 100000",
    }
    root = tree(tmp_path, files)

    assert Limit(GiB, "cgroup v1 memory.limit_in_bytes of /m") == usable_memory(root)
    assert Limit(2, "cgroup v2 cpu.max of /u") == usable_cores(root, affinity=8, machine=8)


def test_a_mount_with_spaces_and_a_later_mount(tmp_path: Path) -> None:
    """Octal escapes in mountinfo are read, and the latest of several mounts counts."""
    files = {
        "proc/self/cgroup": "0::/a b\n",
        "proc/self/mountinfo": V2 + V2.replace("/sys/fs/cgroup", r"/run/the\040groups"),
        "sys/fs/cgroup/a b/memory.max": "1",
        "run/the groups/a b/memory.max": "1073741824",
    }
    root = tree(tmp_path, files)

    assert Limit(GiB, "cgroup v2 memory.max of /a b") == usable_memory(root)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/self/cgroup": "\x00\x01", "proc/self/mountinfo": "garbage - \n\n1 2 - cgroup2\n - \n"},
        {"proc/self/cgroup": "0::/deleted (deleted)\n", "proc/self/mountinfo": V2},
        {"proc/self/cgroup": "0::\n4:memory\n", "proc/self/mountinfo": V2, "sys/fs/cgroup/memory.max": "?"},
    ],
)
def test_malformed_files_are_no_limits(tmp_path: Path, files: dict[str, str]) -> None:
    """A system without control groups, or with files of another form, has the limits of its machine."""
    root = tree(tmp_path, files)

    assert Limit(8 * GiB, "the machine") == usable_memory(root)
    assert Limit(8, "the machine") == usable_cores(root, affinity=8, machine=8)
    assert most_processes(root) is None
    assert 6 * GiB == available_memory(root)


def test_a_limit_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    """A folder in place of a file, as an unreadable one, hides no limit above it."""
    root = version_2(tmp_path, "/a/b", {"a/memory.max": "1073741824", "a/b/memory.max/x": ""})

    assert Limit(GiB, "cgroup v2 memory.max of /a") == usable_memory(root)


def test_without_mountinfo_the_usual_folders_are_read(tmp_path: Path) -> None:
    """Sandboxes without /proc/self/mountinfo still show /sys/fs/cgroup."""
    root = tree(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824"})

    assert Limit(GiB, "cgroup v1 memory.limit_in_bytes of /") == usable_memory(root)


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_of_a_group_counts_its_file_cache(tmp_path: Path, version: int) -> None:
    """The kernel reclaims inactive file cache before the limit: it is free; other processes' memory is not."""
    if version == 2:
        statistics = f"anon {500 * MiB}\ninactive_file {200 * MiB}\nactive_file {50 * MiB}\n"
        files = {"a/memory.max": str(GiB), "a/memory.current": str(800 * MiB), "a/memory.stat": statistics}
        root = version_2(tmp_path, "/a", files)
    else:
        statistics = f"inactive_file 1\nactive_file 1\ntotal_inactive_file {200 * MiB}\ntotal_active_file {50 * MiB}\n"
        names = {"limit_in_bytes": str(GiB), "usage_in_bytes": str(800 * MiB), "stat": statistics}
        root = version_1(tmp_path, "/a", "/a", {f"memory/memory.{name}": text for name, text in names.items()})
    (root / "proc/self/status").write_text(f"RssAnon:\t{150 * 1024} kB\n")

    assert (1024 - 800 + 200) * MiB == available_memory(root)
    assert (1024 - (800 - 200 - 50 - 150)) * MiB == memory_without_others(root)


def test_a_machine_without_limits_keeps_all_of_its_memory(tmp_path: Path) -> None:
    """What other processes hold counts in limited groups alone: a plan does not change with a machine's load."""
    root = version_2(tmp_path, "/a", {"a/memory.max": "max", "a/memory.current": str(5 * GiB)})

    assert 8 * GiB == memory_without_others(root)
    assert 6 * GiB == available_memory(root)


def test_a_full_group_has_no_memory_left(tmp_path: Path) -> None:
    """Usage above the limit, as just after it was lowered, is no negative memory."""
    root = version_2(tmp_path, "/a", {"a/memory.max": str(MiB), "a/memory.current": str(GiB)})

    assert 0 == available_memory(root)
    assert 0 == memory_without_others(root)


def limits(**given: str) -> str:
    """Return the text of /proc/self/limits."""
    values = {"address_space": "unlimited", "data_size": "unlimited", "processes": "unlimited", **given}
    return "".join(f"Max {name.replace('_', ' '):21} {value:20} unlimited units\n" for name, value in values.items())


def test_ulimit_limits_memory(tmp_path: Path) -> None:
    """Address space and data size limit memory; the process's use of each is subtracted from the free memory."""
    status = f"VmSize:\t{MiB} kB\nVmData:\t{MiB // 2} kB\n"
    files = {"proc/self/limits": limits(address_space=str(4 * GiB)), "proc/self/status": status}
    root = tree(tmp_path, files)

    assert Limit(4 * GiB, "ulimit -v") == usable_memory(root)
    assert 3 * GiB == available_memory(root)

    (root / "proc/self/limits").write_text(limits(address_space=str(4 * GiB), data_size=str(2 * GiB)))

    assert Limit(2 * GiB, "ulimit -d") == usable_memory(root)
    assert 3 * GiB // 2 == available_memory(root)


def test_ulimit_limits_the_processes_of_a_user(tmp_path: Path) -> None:
    """All threads of the user count towards `ulimit -u`, except for root, to whom the kernel does not apply it."""
    files = {"proc/self/limits": limits(processes="100"), "proc/self/status": "Uid:\t1000\t1000\nThreads:\t3\n"}
    files |= {"proc/7/status": "Uid:\t1000\t1000\nThreads:\t3\n", "proc/8/status": "Uid:\t1000\t1000\nThreads:\t20\n"}
    root = tree(tmp_path, files | {"proc/9/status": "Uid:\t33\t33\nThreads:\t50\n"})

    assert Limit(100, "ulimit -u") == most_processes(root)
    assert 77 == free_processes(root)

    (root / "proc/self/status").write_text("Uid:\t0\t0\nThreads:\t3\n")

    assert most_processes(root) is None


def test_the_kernel_limits_all_processes(tmp_path: Path) -> None:
    """Without another limit, the kernel's smaller number counts, and all threads of the machine towards it."""
    numbers = {"threads-max": "192730", "pid_max": "32768"}
    root = tree(tmp_path, {f"proc/sys/kernel/{name}": f"{number}\n" for name, number in numbers.items()})
    (root / "proc/loadavg").write_text("0.50 0.40 0.30 7/768 4711\n")

    assert Limit(32768, "the machine") == most_processes(root)
    assert 32000 == free_processes(root)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Limit(4, "affinity")),
        ({"OMP_NUM_THREADS": "2"}, Limit(2, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "3,1"}, Limit(3, "OMP_NUM_THREADS")),
        ({"OMP_NUM_THREADS": "16"}, Limit(4, "affinity")),
        ({"OMP_NUM_THREADS": "3", "OMP_THREAD_LIMIT": "1"}, Limit(1, "OMP_THREAD_LIMIT")),
        ({"OMP_NUM_THREADS": "0"}, Limit(4, "affinity")),
        ({"OMP_NUM_THREADS": "many"}, Limit(4, "affinity")),
        ({"OMP_NUM_THREADS": ""}, Limit(4, "affinity")),
    ],
)
def test_openmp_lowers_the_default_threads(variables: dict[str, str], expected: Limit) -> None:
    """A user's number for OpenMP counts if it is below the cores, as torch itself takes it."""
    assert expected == default_threads(Limit(4, "affinity"), variables)
