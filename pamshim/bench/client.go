// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/msteinert/pam/v2"
)

// client is the PAM application: this program once more, inside the machine.
func client(args []string) {
	var err error
	switch args[0] {
	case "compare":
		err = compare(number(args[1]), strings.Split(args[2], ","))
	case "threads":
		err = threads(strings.Split(args[1], ","), number(args[2]))
	case "refusals":
		err = refuse(strings.Split(args[1], ","))
	default:
		err = fmt.Errorf("no such measurement: %s", args[0])
	}
	if err != nil {
		fmt.Println("  FAILED:", err)
		os.Exit(1)
	}
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // our own words
	return n
}

// authenticate makes one call and says how long it took.
func authenticate(service string) (time.Duration, error) {
	silent := func(pam.Style, string) (string, error) { return "", errors.New("nothing to say") }
	tx, err := pam.StartConfDir(service, "alice", pam.ConversationFunc(silent), "/etc/pam.d")
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	err = tx.Authenticate(0)
	took := time.Since(begin)
	return took, errors.Join(err, tx.End())
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[(len(all)-1)*p/100]
}

// compare takes turns, so that each kind of call meets the same noise.
func compare(rounds int, services []string) error {
	times := map[string][]time.Duration{}
	for range rounds {
		for _, service := range services {
			if !strings.HasPrefix(service, "bench-") {
				continue
			}
			took, err := authenticate(service)
			if err != nil {
				return fmt.Errorf("%s: %w", service, err)
			}
			times[service] = append(times[service], took)
		}
	}
	ours := percentile(times["bench-authn"], 50)
	for _, service := range services {
		if all := times[service]; len(all) > 0 {
			p50 := percentile(all, 50)
			fmt.Printf("  %-14s p50 %8.3f ms  p99 %8.3f ms  pam_authn is %6.2f x\n", strings.TrimPrefix(service, "bench-"),
				ms(p50), ms(percentile(all, 99)), float64(ours)/float64(p50))
		}
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func threads(counts []string, calls int) error {
	for _, count := range counts {
		n := number(count)
		begin := time.Now()
		right := parallel(n, calls)
		spent := time.Since(begin)
		fmt.Printf("  %2d threads: %4d of %4d right, %6.0f calls a second\n", n, right, n*calls, float64(n*calls)/spent.Seconds())
		if right != n*calls {
			return errors.New("not all calls were right")
		}
	}
	return nil
}

func parallel(n, calls int) int {
	var wg sync.WaitGroup
	var mu sync.Mutex
	right := 0
	for range n {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for range calls {
				if _, err := authenticate("bench-authn"); err == nil {
					mu.Lock()
					right++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return right
}

func refuse(services []string) error {
	for _, service := range services {
		var all []time.Duration
		for range 20 {
			took, err := authenticate(service)
			if !errors.Is(err, pam.ErrSystem) {
				return fmt.Errorf("%s: %w instead of a system error", service, err)
			}
			all = append(all, took)
		}
		fmt.Printf("  %-24s p50 %7.3f ms  max %7.3f ms\n", strings.TrimPrefix(service, "refuse-"),
			ms(percentile(all, 50)), ms(percentile(all, 100)))
	}
	return nil
}
