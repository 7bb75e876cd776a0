package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// callsAtOnce is how many calls are under way before questions gather. With one,
// Redis would have nothing to do while an answer is on its way here; with many,
// none would ever meet another.
const callsAtOnce = 2

// mostTogether is how many questions are sent together, in one call or several.
const mostTogether = 16

// sharer gathers questions while calls are under way, as a database gathers
// commits. None waits for another to come: it is sent at once, or when the next
// call comes back, or when as many have gathered as are sent together.
type sharer struct {
	mu        sync.Mutex
	gathering []*question
	calls     int // under way, those that are sent together counted as one
}

// join adds a question and says whether a call is to be made now.
func (s *sharer) join(q *question) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gathering = append(s.gathering, q)
	if s.calls >= callsAtOnce && len(s.gathering) < mostTogether {
		return false
	}
	s.calls++
	return true
}

// next gives what gathered for a call, or notes that there is none.
func (s *sharer) next(into []*question) []*question {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(mostTogether, len(s.gathering))
	if n == 0 {
		s.calls--
		return nil
	}
	into = append(into[:0], s.gathering[:n]...)
	left := copy(s.gathering, s.gathering[n:])
	clear(s.gathering[left:])
	s.gathering = s.gathering[:left]
	return into
}

// waiter is what it takes to wait for an answer.
type waiter struct {
	done  chan struct{}
	timer *time.Timer
}

var waiters = sync.Pool{New: func() any {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &waiter{make(chan struct{}, 1), timer}
}}

// ask gets the answer to a question, no later than the timeout and ctx allow. a is
// told what becomes of one that was given up.
func (r *Redis) ask(ctx context.Context, q *question, a *aside) (*answer, error) {
	w := waiters.Get().(*waiter)
	defer waiters.Put(w)
	q.done = w.done
	w.timer.Reset(r.timeout)
	defer w.timer.Stop()
	r.start(q)
	var given error
	select {
	case <-w.done:
		return &q.answer, q.err
	case <-ctx.Done():
		given = fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	case <-w.timer.C:
		given = unavailable(fmt.Errorf("no answer within %v", r.timeout))
		if a != nil && a.late != nil {
			q.late = a.late()
		}
	}
	if q.state.CompareAndSwap(gathering, abandoned) {
		return nil, given // it was never sent
	}
	if q.state.CompareAndSwap(sent, abandoned) {
		if a != nil {
			a.spent = true
		}
		return nil, given
	}
	<-w.done // the answer came in between
	return &q.answer, q.err
}

// start begins a call for a question, or lets it gather for the next.
func (r *Redis) start(q *question) {
	together := !r.spread.Load()
	if together && !r.sharer.join(q) {
		return
	}
	select {
	case r.inFlight <- struct{}{}:
		if together {
			go r.sendGathered()
		} else {
			go r.sendAlone(q)
		}
		return
	default:
	}
	if !together {
		answerAll([]*question{q}, nil, unavailable(errTooMany))
		return
	}
	for all := r.sharer.next(nil); all != nil; all = r.sharer.next(nil) {
		answerAll(all, nil, unavailable(errTooMany))
	}
}

// sendGathered sends what gathered, until nothing is left.
func (r *Redis) sendGathered() {
	defer func() { <-r.inFlight }()
	questions := make([]*question, 0, mostTogether)
	for {
		// Callers that have their answers, or are about to ask, come first: they
		// are ready to run, so this waits for nobody.
		runtime.Gosched()
		questions = r.sharer.next(questions)
		if questions == nil {
			return
		}
		r.send(questions)
	}
}

func (r *Redis) sendAlone(q *question) {
	defer func() { <-r.inFlight }()
	r.send([]*question{q})
}

// send sends those of the questions that were not given up yet.
func (r *Redis) send(questions []*question) {
	asked := questions[:0]
	for _, q := range questions {
		if q.state.CompareAndSwap(gathering, sent) {
			asked = append(asked, q)
		}
	}
	if len(asked) > 0 {
		r.exchange(asked)
	}
}

// exchange makes a call, or several at once where not so many may share one, and
// hands out the answers. The client is not given a deadline: on one it would close
// a connection that is merely slow, and while its pipeline is stuck it would not
// look at it. Instead, nobody waits any longer, and MaxInFlight bounds what is left
// behind.
func (r *Redis) exchange(questions []*question) {
	client, err := r.connect()
	if err != nil {
		answerAll(questions, nil, unavailable(err))
		return
	}
	if r.spreads(client) {
		r.spread.Store(true)
		var all sync.WaitGroup
		for _, q := range questions {
			all.Go(func() {
				a, err := r.decideSpread(client, q)
				if err != nil {
					err = unavailable(err)
				}
				answerAll([]*question{q}, []answer{a}, err)
			})
		}
		all.Wait()
		return
	}
	if len(questions) <= r.shared {
		replies, err := r.run(client, questions)
		if err != nil {
			err = unavailable(err)
		}
		answerAll(questions, replies, err)
		return
	}
	r.runSeveral(client, slices.Collect(slices.Chunk(questions, r.shared)))
}

// run makes one call for some questions whose keys are in one slot.
func (r *Redis) run(client rueidis.Client, questions []*question) ([]answer, error) {
	c := requests.Get().(*request)
	c.put(questions, r.exact, r.scripted)
	r.calls.Add(1)
	e := r.edition.Load()
	result := client.Do(context.Background(), e.bySHA(client, c))
	if forgotten(result) {
		if err := r.sameData(client, e); err != nil {
			requests.Put(c)
			return nil, err
		}
		result = e.take.Exec(context.Background(), client, c.keys, c.args)
	}
	if result.NonRedisError() == nil {
		requests.Put(c) // otherwise the client may be writing it still
	}
	return r.read(result, questions)
}

// runSeveral makes a call for each of some lots of questions, sends all calls
// together, and hands out the answers. Where Redis does not know the script, nothing
// was counted: one lot brings it, and the others go together once more.
func (r *Redis) runSeveral(client rueidis.Client, lots [][]*question) {
	e := r.edition.Load()
	commands := make(rueidis.Commands, len(lots))
	sent := make([]*request, len(lots))
	for i, questions := range lots {
		c := requests.Get().(*request)
		c.put(questions, r.exact, r.scripted)
		commands[i] = e.bySHA(client, c)
		sent[i] = c
	}
	r.calls.Add(uint64(len(lots)))
	var again [][]*question
	for i, result := range client.DoMulti(context.Background(), commands...) {
		if result.NonRedisError() == nil {
			requests.Put(sent[i])
		}
		if forgotten(result) {
			if wanted := slices.DeleteFunc(lots[i], (*question).givenUp); len(wanted) > 0 {
				again = append(again, wanted)
			}
			continue
		}
		replies, err := r.read(result, lots[i])
		if err != nil {
			err = unavailable(err)
		}
		answerAll(lots[i], replies, err)
	}
	if len(again) == 0 {
		return
	}
	replies, err := r.run(client, again[0])
	if err != nil {
		err = unavailable(err)
	}
	answerAll(again[0], replies, err)
	if errors.Is(err, errLost) {
		for _, questions := range again[1:] {
			answerAll(questions, nil, err)
		}
		return
	}
	if len(again) > 1 {
		r.runSeveral(client, again[1:])
	}
}

func (e *edition) bySHA(client rueidis.Client, c *request) rueidis.Completed {
	return client.B().Evalsha().Sha1(e.take.sha).Numkeys(int64(len(c.keys))).Key(c.keys...).Arg(c.args...).Build()
}

// forgotten reports whether Redis did not run the script since it does not have it.
func forgotten(result rueidis.RedisResult) bool {
	failed, ok := rueidis.IsRedisErr(result.Error())
	return ok && failed.IsNoScript()
}

// givenUp reports whether nobody waits for the answer any more.
func (q *question) givenUp() bool { return q.state.Load() == abandoned }

// read takes apart what the script said to some questions.
func (r *Redis) read(result rueidis.RedisResult, questions []*question) ([]answer, error) {
	reply, err := result.ToString()
	if err != nil {
		return nil, err
	}
	replies, ok := answers(reply, questions, r.scripted)
	if !ok {
		return nil, errStrange
	}
	return replies, nil
}

// answerAll hands out answers, or an error to all. Nobody waits for one that was
// given up.
func answerAll(questions []*question, replies []answer, err error) {
	for i, q := range questions {
		var a answer
		if err == nil {
			a = replies[i]
		}
		if q.state.Swap(answered) == abandoned {
			if a.admitted && q.late != nil {
				q.late()
			}
			continue
		}
		q.answer, q.err = a, err
		q.done <- struct{}{}
	}
}
