package ratelimit

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// callsAtOnce is how many calls are under way before questions gather. With one,
// Redis would have nothing to do while an answer is on its way here; with many,
// none would ever meet another.
const callsAtOnce = 2

// sharer gathers questions while calls are under way, as a database gathers
// commits. None waits for another to come: it is sent at once, or when the next
// call comes back, or when as many have gathered as one call may carry.
type sharer struct {
	most int

	mu        sync.Mutex
	gathering []*question
	calls     int // under way
}

// join adds a question and gives those that are to be sent now.
func (s *sharer) join(q *question) []*question {
	if s.most == 1 {
		return []*question{q}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls < callsAtOnce {
		s.calls++
		return []*question{q}
	}
	s.gathering = append(s.gathering, q)
	if len(s.gathering) < s.most {
		return nil
	}
	s.calls++
	return s.take()
}

// back notes that a call came back and gives those that are to be sent now.
func (s *sharer) back(shared bool) []*question {
	if !shared || s.most == 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.gathering) == 0 {
		s.calls--
		return nil
	}
	return s.take()
}

func (s *sharer) take() []*question {
	all := s.gathering
	s.gathering = make([]*question, 0, s.most)
	return all
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
	if r.spread.Load() {
		r.start([]*question{q}, false)
	} else {
		r.start(r.sharer.join(q), true)
	}
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

// start begins to send questions, if there are any, unless too many calls are
// under way. Where they are shared, those that gather meanwhile follow.
func (r *Redis) start(questions []*question, shared bool) {
	for len(questions) > 0 {
		select {
		case r.inFlight <- struct{}{}:
			go r.send(questions, shared)
			return
		default:
		}
		answerAll(questions, nil, unavailable(errTooMany))
		questions = r.sharer.back(shared)
	}
}

// send sends questions and, where they are shared, those that gathered meanwhile,
// until none is left.
func (r *Redis) send(questions []*question, shared bool) {
	defer func() { <-r.inFlight }()
	for len(questions) > 0 {
		asked := questions[:0]
		for _, q := range questions {
			if q.state.CompareAndSwap(gathering, sent) {
				asked = append(asked, q)
			}
		}
		if len(asked) > 0 {
			r.sendOne(asked)
		}
		questions = r.sharer.back(shared)
	}
}

// sendOne makes one call and hands out the answers. The client is not given a
// deadline: on one it would close a connection that is merely slow, and while its
// pipeline is stuck it would not look at it. Instead, nobody waits any longer, and
// MaxInFlight bounds what is left behind.
func (r *Redis) sendOne(questions []*question) {
	client, err := r.connect()
	if err != nil {
		answerAll(questions, nil, unavailable(err))
		return
	}
	if client.Mode() == rueidis.ClientModeCluster && !strings.Contains(r.prefix, "{") {
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
	replies, err := r.run(client, questions)
	if err != nil {
		err = unavailable(err)
	}
	answerAll(questions, replies, err)
}

// run runs the script for some questions whose keys are in one slot.
func (r *Redis) run(client rueidis.Client, questions []*question) ([]answer, error) {
	c := newCall(questions, r.exact, r.scripted)
	reply, err := r.take.Exec(context.Background(), client, c.keys, c.args).ToString()
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
