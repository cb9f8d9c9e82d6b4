while True:
    print("flood flood flood flood flood flood flood flood flood flood")
