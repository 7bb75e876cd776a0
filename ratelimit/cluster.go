package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

//go:embed giveback.lua
var giveBackScript string

// giveBackTries is how often a unit that must be given back is tried to: a node
// that is failing over comes back within seconds.
const giveBackTries = 5

// decideSpread decides on subjects in different slots of a cluster, each on its
// own node and clock, and gives the reply that one script would have given: all
// instants on the first subject's clock.
func (r *Redis) decideSpread(client rueidis.Client, keys, args []string, subjectArgs [][]string) ([]int64, error) {
	replies := make([][]int64, len(subjectArgs))
	failed := make([]error, len(subjectArgs))
	var all sync.WaitGroup
	for i, own := range subjectArgs {
		all.Go(func() {
			replies[i], failed[i] = r.take.Exec(context.Background(), client, keys[2*i:2*i+2], append(args[:3:3], own...)).AsIntSlice()
			if failed[i] == nil && len(replies[i]) < 5 {
				failed[i] = errors.New("the answer is not that of the script")
			}
		})
	}
	all.Wait()
	err := errors.Join(failed...)
	admitted := err == nil
	for _, reply := range replies {
		admitted = admitted && reply[0] == 1
	}
	if args[0] == "take" && !admitted {
		for i, reply := range replies {
			if failed[i] == nil && reply[0] == 1 {
				all.Go(func() { r.returnTaken(client, keys[2*i:2*i+2], reply) })
			}
		}
		all.Wait()
	}
	if err != nil {
		return nil, err
	}
	joined := []int64{0, replies[0][1]}
	if admitted {
		joined[0] = 1
	}
	var counts []int64
	for _, reply := range replies {
		now := joined[1] - reply[1]
		joined = append(joined, reply[2], reply[3], reply[4]+now)
		counts = append(counts, reply[5:]...)
	}
	return append(joined, counts...), nil
}

// returnTaken gives back what a subject's script took, and makes its reply what it
// would have been: the reset of a subject that is not full is that of its oldest
// request, and so is that of one which has just become full.
func (r *Redis) returnTaken(client rueidis.Client, keys []string, reply []int64) {
	for try := range giveBackTries {
		if r.giveBack.Exec(context.Background(), client, keys, []string{strconv.FormatInt(reply[1], 10)}).Error() == nil {
			break
		}
		time.Sleep(time.Duration(try+1) * 100 * time.Millisecond)
	}
	if reply[3]--; reply[3] == 0 {
		reply[4] = reply[1]
	}
	for i := range reply[5:] {
		reply[5+i]--
	}
}
