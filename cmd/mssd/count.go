package main

import "fmt"

// counted says how many there are: "1 message", "2 messages".
func counted[N ~int | ~int64 | ~uint64](n N, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func messages[N ~int | ~int64 | ~uint64](n N) string { return counted(n, "message", "messages") }
