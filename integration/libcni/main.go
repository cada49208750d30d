// Command libcni drives a CNI configuration list with the library that the
// container runtimes use, so that what reaches the plugin here (environment,
// prevResult, runtimeConfig, result cache) is what reaches it in production.
//
//	libcni [flags] add|check|del ID NETNS [HOST:CONTAINER[/PROTOCOL]]...
//	libcni [flags] many-add|many-del COUNT FIRSTPORT
//
// The many- verbs run COUNT attachments at the same time: container storm-I in
// /run/netns/storm-I, with host port FIRSTPORT+I published to port 80.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
)

var (
	conf    = flag.String("conf", "", "configuration list")
	bin     = flag.String("bin", "/opt/cni/bin", "plugin directories, separated by colons")
	cache   = flag.String("cache", "/var/lib/cni", "directory of the result cache")
	ifname  = flag.String("ifname", "eth0", "interface name in the container")
	timeout = flag.Duration("timeout", 60*time.Second, "limit for the whole run")
)

type driver struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

// portMapping has the field names of the portMappings capability.
type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

func runtimeConf(id, netns string, ports []portMapping) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{ContainerID: id, NetNS: netns, IfName: *ifname}
	if len(ports) > 0 {
		rt.CapabilityArgs = map[string]interface{}{"portMappings": ports}
	}
	return rt
}

func parsePorts(words []string) ([]portMapping, error) {
	var ports []portMapping
	for _, word := range words {
		mapping := portMapping{Protocol: "tcp"}
		numbers := word
		if i := strings.IndexByte(word, '/'); i >= 0 {
			numbers, mapping.Protocol = word[:i], word[i+1:]
		}
		if _, err := fmt.Sscanf(numbers, "%d:%d", &mapping.HostPort, &mapping.ContainerPort); err != nil {
			return nil, fmt.Errorf("port mapping %q: %w", word, err)
		}
		ports = append(ports, mapping)
	}
	return ports, nil
}

func (d *driver) one(ctx context.Context, verb, id, netns string, ports []portMapping) error {
	rt := runtimeConf(id, netns, ports)
	switch verb {
	case "add":
		result, err := d.cni.AddNetworkList(ctx, d.list, rt)
		if err != nil {
			return err
		}
		return result.PrintTo(os.Stdout)
	case "check":
		return d.cni.CheckNetworkList(ctx, d.list, rt)
	case "del":
		return d.cni.DelNetworkList(ctx, d.list, rt)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

// many runs all attachments at once; the first address of each must be its own.
func (d *driver) many(ctx context.Context, verb string, count, firstPort int) error {
	var (
		wait   sync.WaitGroup
		mutex  sync.Mutex
		failed []error
		owner  = map[string]string{}
	)
	attach := func(id, netns string, port int) error {
		rt := runtimeConf(id, netns, []portMapping{{HostPort: port, ContainerPort: 80, Protocol: "tcp"}})
		if verb == "many-del" {
			return d.cni.DelNetworkList(ctx, d.list, rt)
		}
		result, err := d.cni.AddNetworkList(ctx, d.list, rt)
		if err != nil {
			return err
		}
		parsed, err := types100.NewResultFromResult(result)
		if err != nil {
			return err
		}
		if len(parsed.IPs) == 0 {
			return fmt.Errorf("result without an address")
		}
		address := parsed.IPs[0].Address.IP.String()
		mutex.Lock()
		defer mutex.Unlock()
		if other, taken := owner[address]; taken {
			return fmt.Errorf("address %s was also given to %s", address, other)
		}
		owner[address] = id
		return nil
	}

	begin := time.Now()
	for i := 0; i < count; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			id := fmt.Sprintf("storm-%d", i)
			if err := attach(id, filepath.Join("/run/netns", id), firstPort+i); err != nil {
				mutex.Lock()
				failed = append(failed, fmt.Errorf("%s: %w", id, err))
				mutex.Unlock()
			}
		}(i)
	}
	wait.Wait()

	for _, err := range failed {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Printf("%s: %d at once in %.2f s, %d failed\n", verb, count, time.Since(begin).Seconds(), len(failed))
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d failed", len(failed), count)
	}
	return nil
}

func run(words []string) error {
	if len(words) < 3 {
		return fmt.Errorf("usage: libcni [flags] VERB ID NETNS [PORT]... | many-VERB COUNT FIRSTPORT")
	}
	list, err := libcni.ConfListFromFile(*conf)
	if err != nil {
		return err
	}
	d := &driver{cni: libcni.NewCNIConfigWithCacheDir(filepath.SplitList(*bin), *cache, nil), list: list}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()

	if strings.HasPrefix(words[0], "many-") {
		count, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		firstPort, err := strconv.Atoi(words[2])
		if err != nil {
			return err
		}
		return d.many(ctx, words[0], count, firstPort)
	}
	ports, err := parsePorts(words[3:])
	if err != nil {
		return err
	}
	return d.one(ctx, words[0], words[1], words[2], ports)
}

func main() {
	flag.Parse()
	if err := run(flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "libcni:", err)
		os.Exit(1)
	}
}
