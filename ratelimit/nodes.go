package ratelimit

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// On a cluster each node may lose its data alone. Which node has a slot is the
// cluster's affair, and changes; so that nobody has to follow it, marks stand in slots
// that are spread evenly over all of them, and a node whose mark is gone, or knows of an
// earlier word than was said there, has lost data. With the slots in one stretch each, as Redis gives them out, every one of up to
// half as many masters as there are marks has one.
const (
	slotCount = 16384
	markCount = 64
	markWidth = slotCount / markCount
)

// slots are stretches of slots, their ends included.
type slots [][2]int

func (s slots) have(slot int) bool {
	return slices.ContainsFunc(s, func(stretch [2]int) bool { return stretch[0] <= slot && slot <= stretch[1] })
}

// slotsBeside gives all slots of the nodes that have these.
func (r *Redis) slotsBeside(ctx context.Context, which []int) (slots, error) {
	reply, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return client.Do(context.Background(), client.B().ClusterSlots().Build())
	})
	var said *rueidis.RedisError
	switch {
	case errors.As(err, &said) && strings.HasPrefix(said.Error(), "NOPERM"): // then as if all had lost theirs
		return slots{{0, slotCount - 1}}, nil
	case err != nil:
		return nil, err
	}
	entries, err := reply.ToArray()
	if err != nil {
		return nil, unavailable(err)
	}
	of := make(map[string]slots)
	for _, entry := range entries { // from, to, the master: its address, port and id; its replicas
		parts, err := entry.ToArray()
		if err != nil || len(parts) < 3 {
			return nil, unavailable(errStrange)
		}
		from, fromErr := parts[0].AsInt64()
		to, toErr := parts[1].AsInt64()
		master, err := parts[2].ToArray()
		if err = errors.Join(err, fromErr, toErr); err != nil || len(master) < 3 {
			return nil, unavailable(errStrange)
		}
		name, err := master[2].ToString() // its address may not be told
		if err != nil {
			return nil, unavailable(errStrange)
		}
		of[name] = append(of[name], [2]int{int(from), int(to)})
	}
	var all slots
	for _, stretches := range of {
		if slices.ContainsFunc(which, stretches.have) {
			all = append(all, stretches...)
		}
	}
	for _, slot := range which {
		if !all.have(slot) { // the node that was asked does not know of its master
			return nil, unavailable(errors.New("the cluster does not say who has a slot"))
		}
	}
	return all, nil
}

// markTags gives for each mark a hash tag whose slot is in the middle eighth of the
// mark's stretch.
var markTags = sync.OnceValue(func() (tags [markCount]string) {
	for left, i := markCount, 0; left > 0; i++ {
		tag := strconv.Itoa(i)
		slot := slotOf(tag)
		off := slot%markWidth - markWidth/2
		if n := slot / markWidth; tags[n] == "" && -markWidth/16 <= off && off < markWidth/16 {
			tags[n] = tag
			left--
		}
	}
	return tags
})

// markKey names a mark. No subject has such a name: there is no colon in it.
func (r *Redis) markKey(n int) string { return r.prefix + "data{" + markTags()[n] + "}" }

// spreads says whether the subjects are in different slots of a cluster.
func (r *Redis) spreads(client rueidis.Client) bool {
	return client.Mode() == rueidis.ClientModeCluster && !strings.Contains(r.prefix, "{")
}

// marks lets an instance look at all marks, or say at them that Redis knows all it admitted.
// said are those that it found or said last. It gives none where there is no such cluster.
func (r *Redis) marks(ctx context.Context, instance, does string, said []mark, silence time.Duration) ([]mark, error) {
	client, err := r.connect()
	if err != nil {
		return nil, unavailable(err)
	}
	if !r.spreads(client) {
		return nil, nil
	}
	last, args := make([]int64, markCount), make([][]string, markCount)
	for i := range args {
		if said != nil {
			last[i] = said[i].said
		}
		args[i] = aliveArguments(instance, does, last[i], silence, 0)
	}
	var results []rueidis.RedisResult
	_, err = r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		commands := make(rueidis.Commands, markCount)
		for i := range commands {
			commands[i] = r.atMark(client, r.markKey(i), args[i])
		}
		results = client.DoMulti(context.Background(), commands...)
		var again sync.WaitGroup
		for i := range results {
			if r.unknownAtMark(results[i], does) {
				again.Go(func() {
					results[i] = client.Do(context.Background(), r.bringToMark(client, r.markKey(i), args[i]))
				})
			}
		}
		again.Wait()
		return results[0]
	})
	if err != nil { // it may be under way still
		return nil, err
	}
	found := make([]mark, markCount)
	for i, result := range results {
		c, err := readCensus(result, does, last[i])
		if err != nil {
			return nil, err
		}
		found[i] = c.mark
	}
	return found, nil
}

// markKeys names all marks.
func (r *Redis) markKeys() []string {
	keys := make([]string, markCount)
	for i := range keys {
		keys[i] = r.markKey(i)
	}
	return keys
}

// slotOf gives the slot of a key: CRC-16 (XMODEM) of its hash tag, or of all of it
// (Redis Cluster specification).
func slotOf(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slotCount)
}
