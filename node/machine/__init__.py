"""What a process asks of its machine: files written safely, rates, memory, child processes. Imports nothing of ours."""
