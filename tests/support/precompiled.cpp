// The program of no test: its precompiled headers are shared.
