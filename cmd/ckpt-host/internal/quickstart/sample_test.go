package quickstart

import (
	"context"
	"maps"
	"strconv"
	"strings"
	"testing"
)

// model is a visitor that keeps the state, and what it was after each version.
type model struct {
	state  map[string]string
	states []map[string]string
}

func (m *model) put(_ context.Context, key, value []byte) error {
	m.state[string(key)] = string(value)
	return nil
}

func (m *model) remove(_ context.Context, key []byte) error {
	delete(m.state, string(key))
	return nil
}

func (m *model) end(context.Context, uint64) error {
	m.states = append(m.states, maps.Clone(m.state))
	return nil
}

// TestSample checks the sample's facts against each other: each year's members are as many as its total
// says, and years ascend.
func TestSample(t *testing.T) {
	src := sample(t)
	m := &model{state: map[string]string{}}
	if err := src.Replay(t.Context(), 0, limits{}, m); err != nil {
		t.Fatal(err)
	}
	if len(m.states) != 42 || src.Versions() != 42 {
		t.Fatalf("%d versions", len(m.states))
	}
	lastYear := 0
	for i, state := range m.states {
		members := 0
		for key := range state {
			if strings.HasPrefix(key, "members/") {
				members++
			}
		}
		if total := state["total"]; total != strconv.Itoa(members) {
			t.Errorf("%s: total %s, and %d members", state["year"], total, members)
		}
		year, err := strconv.Atoi(state["year"])
		if err != nil || year <= lastYear {
			t.Errorf("version %d: year %s after %d", i+1, state["year"], lastYear)
		}
		lastYear = year
	}
	for version, want := range map[int]string{1: "51", 6: "60", 16: "117", 42: "193"} {
		if got := m.states[version-1]["total"]; got != want {
			t.Errorf("version %d: total %s, want %s", version, got, want)
		}
	}

	// What it expects of a version is what its replay leads to, from wherever the replay begins.
	for _, version := range []uint64{1, 20, 42} {
		expects := map[string]bool{}
		for entry, err := range src.Expect(t.Context(), version, limits{}) {
			if err != nil {
				t.Fatal(err)
			}
			key := string(entry.key)
			expects[key] = true
			if value, there := m.states[version-1][key]; !there || !entry.matches([]byte(value)) || entry.matches([]byte(value+"x")) {
				t.Errorf("version %d: %q is not as expected", version, key)
			}
		}
		if len(expects) != len(m.states[version-1]) {
			t.Errorf("version %d: %d entries expected, %d there", version, len(expects), len(m.states[version-1]))
		}
		later := &model{state: maps.Clone(m.states[version-1])}
		if err := src.Replay(t.Context(), version, limits{}, later); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(later.state, m.states[41]) {
			t.Errorf("from version %d on it ends elsewhere", version)
		}
	}
	ids := map[string]bool{}
	for version := range src.Versions() {
		ids[src.ID(version+1)] = true
	}
	if len(ids) != 42 {
		t.Errorf("%d different ids", len(ids))
	}
}
