"""Campaign of faults: kills, failing system calls, damaged files, hostile content, user code that misbehaves."""
